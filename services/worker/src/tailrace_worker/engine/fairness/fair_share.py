"""Decide how many slots of a worker one tenant may take. Pure.

A tenant's jobs are admitted while it holds no more than ``alpha`` times the free slots: the dynamic
threshold of Choudhury and Hahne ("Dynamic Queue Length Thresholds for Shared-Memory Packet
Switches", IEEE/ACM Transactions on Networking 6/2, 1998). A single tenant gets ``alpha / (1 +
alpha)`` of the slots; the rest lets the next tenant in at once. With more tenants each gets an
equal share, at any demand. Nothing is configured per tenant.
"""

from collections import Counter


class FairShare:
    """Counts the slots that each tenant holds. One thread changes it; others may read.

    Args:
        slots: number of executions that the worker drives at once.
        alpha: how many times the free slots one tenant may hold.

    Attributes:
        slots: as given.
    """

    def __init__(self, slots: int, alpha: float = 2.0) -> None:
        self.slots = slots
        self._alpha = alpha
        self._held: Counter[str] = Counter()
        self._total = 0

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self.slots - self._total

    def admits(self, tenant: str) -> bool:
        """Return whether a tenant may take one more slot."""
        return self.free > 0 and self._held[tenant] <= self._alpha * self.free

    def acquire(self, tenant: str) -> None:
        """Count one more slot of a tenant."""
        self._held[tenant] += 1
        self._total += 1

    def release(self, tenant: str) -> None:
        """Count one slot of a tenant less."""
        self._held[tenant] -= 1
        self._total -= 1
        if not self._held[tenant]:
            del self._held[tenant]
