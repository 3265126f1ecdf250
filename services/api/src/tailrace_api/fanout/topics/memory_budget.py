"""Limit the memory of topics, per tenant and for the whole process.

The memory of a topic depends on what happens, not only on what clients request. So when the budget
is used up, new topics are refused, existing rings evict what has been sent, and a topic whose state
still grows has its streams closed with a retry delay. Other topics lose nothing.
"""

from collections import Counter


class TopicRefusedError(Exception):
    """The memory budget has no room for another topic."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MemoryBudget:
    """Counts the memory of topics against limits.

    Args:
        max_bytes: the limit for all topics.
        max_tenant_bytes: the limit for the topics of one tenant.
    """

    def __init__(self, max_bytes: int, max_tenant_bytes: int) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._max_tenant_bytes = max_tenant_bytes
        self._tenants: Counter[str] = Counter()

    def refusal(self, tenant: str) -> str:
        if self.bytes >= self._max_bytes:
            return "topics_full"
        return "tenant_topics_full" if self._tenants[tenant] >= self._max_tenant_bytes else ""

    def add(self, tenant: str, count: int) -> None:
        self.bytes += count
        self._tenants[tenant] += count
        if not self._tenants[tenant]:
            # Tenants come and go; a zero entry would stay forever.
            del self._tenants[tenant]


class MemoryAccount:
    """The memory of one topic."""

    def __init__(self, budget: MemoryBudget, tenant: str) -> None:
        self._budget = budget
        self._tenant = tenant
        self._bytes = 0
        self._is_closed = False

    @property
    def refusal(self) -> str:
        return self._budget.refusal(self._tenant)

    def add(self, count: int) -> None:
        if not self._is_closed:
            self._bytes += count
            self._budget.add(self._tenant, count)

    def close(self) -> None:
        """Release everything; later changes are not counted."""
        self.add(-self._bytes)
        self._is_closed = True
