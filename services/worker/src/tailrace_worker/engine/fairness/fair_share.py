"""Fair shares: how much of a worker one tenant may take. Pure.

A tenant's jobs are admitted while it drives no more than ``alpha`` times what is free: the
dynamic threshold of Choudhury and Hahne ("Dynamic Queue Length Thresholds for Shared-Memory
Packet Switches", IEEE/ACM Transactions on Networking 6/2, 1998). One tenant alone gets
``alpha / (1 + alpha)`` of the slots; the rest is what lets the next in at once. With more tenants
each gets an equal share, whatever any of them asks for, and nothing need be configured per tenant.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class FairShare:
    """Counts what each tenant has of a worker's slots.

    Args:
        slots: how many executions the worker drives at once.
        alpha: how many times what is free one tenant may have.
    """

    def __init__(self, slots: int, alpha: float = 2.0) -> None:
        self._slots = slots
        self._alpha = alpha
        self._driving: Counter[str] = Counter()

    @property
    def free(self) -> int:
        """How many slots nobody has."""
        return self._slots - self._driving.total()

    def admits(self, tenant: str) -> bool:
        """Tell whether one more execution of a tenant may be driven."""
        return self.free > 0 and self._driving[tenant] <= self._alpha * self.free

    @contextmanager
    def one_more(self, tenant: str) -> Iterator[None]:
        """Count one execution of a tenant as long as it is driven."""
        self.taken(tenant)
        try:
            yield
        finally:
            self.released(tenant)

    def taken(self, tenant: str) -> None:
        """Take note that one more execution of a tenant is driven."""
        self._driving[tenant] += 1

    def released(self, tenant: str) -> None:
        """Take note that one execution of a tenant is driven no longer."""
        self._driving[tenant] -= 1
        if not self._driving[tenant]:
            del self._driving[tenant]
