"""Admission: how many streams a process and a tenant may have. Who is in stays in."""

from collections import Counter


class StreamQuota:
    """Counts streams against limits.

    Args:
        most: how many streams there may be.
        most_of_tenant: how many of them may be one tenant's.
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._tenants: Counter[str] = Counter()
        self._all = 0

    def __len__(self) -> int:
        return self._all

    def of_tenant(self, tenant: str) -> int:
        """Return how many of the streams are a tenant's."""
        return self._tenants[tenant]

    def refusal(self, tenant: str) -> str:
        """Return which limit a new stream of a tenant would break; empty if none."""
        if self._all >= self._most:
            return "full"
        return "tenant_full" if self._tenants[tenant] >= self._most_of_tenant else ""

    def enter(self, tenant: str) -> None:
        """Count a stream."""
        self._tenants[tenant] += 1
        self._all += 1

    def leave(self, tenant: str) -> None:
        """Count it no more."""
        self._all -= 1
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            # Tenants come and go.
            del self._tenants[tenant]
