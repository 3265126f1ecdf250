"""Limits for the request bodies in the memory of one process, in all and of each tenant.

A body counts from its first byte until its response begins. A client that sends many and finishes
none cannot take the memory that other tenants need. Large bodies are decoded one at a time, and one
of each tenant waits for its turn, so a tenant with many delays no other for long.
"""

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from tailrace_api.web.problems import RefusedError
from tailrace_shared.process.fair_threads import FairThreads

_SCOPE_KEY: Final = "tailrace.body"
T = TypeVar("T")

_HEADERS: Final = {"retry-after": "1", "connection": "close"}


class BodyBudget:
    """The bytes of bodies that may be in memory at a time.

    Args:
        max_bytes: the limit of the process.
        max_tenant_bytes: the limit of a tenant.
        threads: decode large bodies.

    Attributes:
        used: the bytes in memory now.
    """

    def __init__(self, max_bytes: int, max_tenant_bytes: int, threads: FairThreads) -> None:
        self._max_bytes = max_bytes
        self._max_tenant_bytes = max_tenant_bytes
        self._of_tenants: dict[str, int] = {}
        self.threads = threads
        self.used = 0

    def add(self, tenant: str, size: int) -> None:
        """Count bytes that were received.

        Raises:
            RefusedError: A limit is reached (429 for the tenant, 503 for the process).
        """
        of_tenant = self._of_tenants.get(tenant, 0) + size
        if of_tenant > self._max_tenant_bytes:
            raise RefusedError(
                429,
                f"the request bodies of {tenant!r} that are being received take more than "
                f"{self._max_tenant_bytes} bytes (TAILRACE_MAX_TENANT_PENDING_BODY_BYTES); send "
                "fewer at a time",
                headers=_HEADERS,
            )
        if self.used + size > self._max_bytes:
            raise RefusedError(
                503,
                f"the request bodies that are being received take more than {self._max_bytes} "
                "bytes (TAILRACE_MAX_PENDING_BODY_BYTES); try again",
                headers=_HEADERS,
            )
        self._of_tenants[tenant] = of_tenant
        self.used += size

    def remove(self, tenant: str, size: int) -> None:
        """Count bytes that are not needed any more."""
        self.used -= size
        left = self._of_tenants.pop(tenant, 0) - size
        if left > 0:
            self._of_tenants[tenant] = left


class PendingBody:
    """The body of one request.

    Args:
        budget: what it counts against.
        tenant: the tenant that sends it.
        receive: receives the request.

    Attributes:
        is_complete: whether all of it was received.
    """

    def __init__(self, budget: BodyBudget, tenant: str, receive: Receive) -> None:
        self.budget = budget
        self.tenant = tenant
        self._receive = receive
        self._size = 0
        self.is_complete = False

    async def receive(self) -> Message:
        """Receive a part of the request, and count it.

        Raises:
            RefusedError: A limit is reached.
        """
        message = await self._receive()
        self.is_complete = not message.get("more_body", False)
        if size := len(message.get("body", b"")):
            self.budget.add(self.tenant, size)
            self._size += size
        return message

    def release(self) -> None:
        """Count the body no longer."""
        if self._size:
            self.budget.remove(self.tenant, self._size)
            self._size = 0

    def attach(self, scope: Scope) -> None:
        """Let the reader of the body find it."""
        scope[_SCOPE_KEY] = self


async def run_in_turn(request: Request, decode: Callable[[bytes], T], body: bytes) -> T:
    """Decode a large body in a thread, one at a time for each tenant."""
    pending: PendingBody | None = request.scope.get(_SCOPE_KEY)
    if pending is None:
        return await asyncio.to_thread(decode, body)
    return await pending.budget.threads.run(pending.tenant, decode, body)
