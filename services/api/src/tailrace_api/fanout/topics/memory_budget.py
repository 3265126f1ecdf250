"""The budget: how much topics may keep, one tenant's and all, whatever clients ask for.

What a topic keeps depends on what happens, not only on who asks. So where there is no room, new
topics are refused, those that there are keep of their rings what has yet to be written, and one
whose state grows all the same has its streams told to come back: of what others keep nothing is
taken away.
"""

from collections import Counter


class TopicRefusedError(Exception):
    """There is no room for another topic.

    Attributes:
        reason: whose limit it is.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MemoryBudget:
    """Counts what topics keep against limits.

    Args:
        most: how many bytes all may keep.
        most_of_tenant: how many of them may be one tenant's.

    Attributes:
        bytes: how many they keep.
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self.bytes = 0
        self._most = most
        self._most_of_tenant = most_of_tenant
        self._tenants: Counter[str] = Counter()

    def refusal(self, tenant: str) -> str:
        """Return which limit leaves a tenant no room; empty if there is some."""
        if self.bytes >= self._most:
            return "topics_full"
        return "tenant_topics_full" if self._tenants[tenant] >= self._most_of_tenant else ""

    def take(self, tenant: str, count: int) -> None:
        """Count bytes that a tenant's topics keep more than before, or less."""
        self.bytes += count
        self._tenants[tenant] += count
        if not self._tenants[tenant]:
            # Tenants come and go.
            del self._tenants[tenant]


class MemoryAccount:
    """What one topic keeps.

    Args:
        budget: what it is a part of.
        tenant: whose topic it is.
    """

    def __init__(self, budget: MemoryBudget, tenant: str) -> None:
        self._budget = budget
        self._tenant = tenant
        self._bytes = 0
        self._is_closed = False

    @property
    def refusal(self) -> str:
        """Which limit leaves no room; empty if there is some."""
        return self._budget.refusal(self._tenant)

    def take(self, count: int) -> None:
        """Count bytes that are kept more than before, or less."""
        if not self._is_closed:
            self._bytes += count
            self._budget.take(self._tenant, count)

    def close(self) -> None:
        """Give everything back, for good: what is still to be thrown away counts no more."""
        self.take(-self._bytes)
        self._is_closed = True
