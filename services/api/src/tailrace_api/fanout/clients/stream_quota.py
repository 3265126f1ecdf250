"""Limit the number of open streams per process and per tenant."""

from collections import Counter


class StreamQuota:
    """Counts open streams against limits; open streams are never closed by it."""

    def __init__(self, max_streams: int, max_tenant_streams: int) -> None:
        self._max_streams = max_streams
        self._max_tenant_streams = max_tenant_streams
        self._tenants: Counter[str] = Counter()
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def of_tenant(self, tenant: str) -> int:
        return self._tenants[tenant]

    def refusal(self, tenant: str) -> str:
        """Return the limit that a new stream of a tenant would exceed, or an empty string."""
        if self._total >= self._max_streams:
            return "full"
        return "tenant_full" if self._tenants[tenant] >= self._max_tenant_streams else ""

    def is_above_average(self, tenant: str) -> bool:
        """Return whether a tenant has streams, and at least as many as tenants have on average."""
        own = self._tenants[tenant]
        return own > 0 and own * len(self._tenants) >= self._total

    def acquire(self, tenant: str) -> None:
        self._tenants[tenant] += 1
        self._total += 1

    def release(self, tenant: str) -> None:
        self._total -= 1
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            # Tenants come and go; a zero entry would stay forever.
            del self._tenants[tenant]
