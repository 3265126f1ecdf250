"""Limits for the large outputs in the memory of one worker, in all and of each tenant.

An output that is too large for an event counts from the end of its function until it is stored, and
as long as its execution is driven if an expression names it. A tenant whose steps return much at
the same time cannot take the memory that other tenants need: a step beyond the limit fails.
"""

import threading

from tailrace_shared.errors import ServiceError


class OutputMemoryError(ServiceError):
    """Outputs take more memory than they may.

    Attributes:
        is_permanent: whether what was asked for is more than the limit by itself.
    """

    def __init__(self, message: str, *, is_permanent: bool) -> None:
        super().__init__(message)
        self.is_permanent = is_permanent


class OutputBudget:
    """The bytes of large outputs that one worker may hold. May be used from any thread.

    Args:
        max_bytes: the limit of the worker, in bytes of JSON.
        max_tenant_bytes: the limit of a tenant.

    Attributes:
        used: the bytes that are held now.
    """

    def __init__(self, max_bytes: int, max_tenant_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._max_tenant_bytes = max_tenant_bytes
        self._lock = threading.Lock()
        self._of_tenants: dict[str, int] = {}
        self.used = 0

    def open(self, tenant: str) -> "HeldOutputs":
        """Return the account of an attempt or a drive of a tenant."""
        return HeldOutputs(self, tenant)

    def take(self, tenant: str, size: int, *, is_enforced: bool = True) -> None:
        """Add an output to the bytes in use.

        Raises:
            OutputMemoryError: a limit is reached.
        """
        with self._lock:
            of_tenant, used = self._of_tenants.get(tenant, 0) + size, self.used + size
            if is_enforced and of_tenant > self._max_tenant_bytes:
                raise OutputMemoryError(
                    f"the large outputs of this tenant in one worker would take {of_tenant} bytes; "
                    f"the limit is {self._max_tenant_bytes} "
                    "(TAILRACE_MAX_TENANT_PENDING_OUTPUT_BYTES): run fewer such steps at a time, "
                    "or return references",
                    is_permanent=size > self._max_tenant_bytes,
                )
            if is_enforced and used > self._max_bytes:
                raise OutputMemoryError(
                    f"the large outputs in this worker would take {used} bytes; the limit is "
                    f"{self._max_bytes} (TAILRACE_MAX_PENDING_OUTPUT_BYTES): try again later, or "
                    "add workers",
                    is_permanent=size > self._max_bytes,
                )
            self._of_tenants[tenant] = of_tenant
            self.used = used

    def give_back(self, tenant: str, size: int) -> None:
        """Subtract an output from the bytes in use."""
        with self._lock:
            self.used -= size
            left = self._of_tenants.pop(tenant, 0) - size
            if left > 0:
                self._of_tenants[tenant] = left


UNLIMITED: OutputBudget = OutputBudget(2**63, 2**63)
"""A budget that refuses nothing."""


class HeldOutputs:
    """The outputs that an attempt or a drive holds."""

    def __init__(self, budget: OutputBudget, tenant: str) -> None:
        self._budget = budget
        self._tenant = tenant
        self._size = 0
        self._is_closed = False

    def take(self, size: int, *, is_enforced: bool = True) -> None:
        """Add an output to those held.

        Raises:
            OutputMemoryError: a limit is reached.
        """
        # The function of an attempt that is over may still run in a thread; its result is dropped.
        if not self._is_closed:
            self._budget.take(self._tenant, size, is_enforced=is_enforced)
            self._size += size

    def cover(self, size: int) -> None:
        """Raise the size of the outputs held to at least ``size`` bytes.

        Raises:
            OutputMemoryError: a limit is reached.
        """
        if size > self._size:
            self.take(size - self._size)

    def release(self) -> None:
        """Give back all outputs held."""
        size, self._size = self._size, 0
        self._budget.give_back(self._tenant, size)

    def close(self) -> None:
        """Give back all outputs held, and ignore later ones."""
        self._is_closed = True
        self.release()
