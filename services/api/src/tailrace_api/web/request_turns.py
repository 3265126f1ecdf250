"""Limit how many requests a process works on at a time, and order those that wait.

All requests of a process share its event loop and its memory. Those of one tenant beyond a number
wait in a queue of their own, before their bodies are decoded.
"""

import asyncio
import contextlib
from collections import deque
from typing import Final

from starlette.types import Message, Receive, Scope

from tailrace_api.web.problems import RefusedError

MAX_WAIT_S: Final = 30.0
"""How long a request waits for its turn."""

_SCOPE_KEY: Final = "tailrace.turn"
_RETRY_AFTER: Final = {"retry-after": "1"}

_Queue = deque[asyncio.Future[None]]


def _first(queue: _Queue) -> asyncio.Future[None] | None:
    """Take the first request of a queue that still waits; None if there is none."""
    while queue:
        waiting = queue.popleft()
        if not waiting.done():
            return waiting
    return None


class TenantTurns:
    """The requests that a process works on, by tenant. Those of a tenant have their turns in order.

    Args:
        at_once: how many of a tenant have a turn at a time.
        max_waiting: how many of a tenant may wait for one.
        max_wait_s: how long they wait.
    """

    def __init__(self, at_once: int, max_waiting: int, max_wait_s: float = MAX_WAIT_S) -> None:
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._active: dict[str, int] = {}
        self._queues: dict[str, _Queue] = {}

    @property
    def is_busy(self) -> bool:
        """Whether a request has a turn or waits for one."""
        return bool(self._active or self._queues)

    async def begin(self, tenant: str, *, goes_on: bool = False) -> None:
        """Wait for a turn.

        Args:
            goes_on: whether the request has had a turn and gave it up; it goes before new ones.

        Raises:
            RefusedError: Too many requests of the tenant wait, or this one has waited too long.
        """
        active = self._active.get(tenant, 0)
        if active < self._at_once:
            self._active[tenant] = active + 1
            return
        queue = self._queues.setdefault(tenant, deque())
        if len(queue) >= self._max_waiting and not goes_on:
            raise RefusedError(
                429,
                f"{self._at_once} requests of {tenant!r} are being answered "
                f"(TAILRACE_MAX_TENANT_REQUESTS) and {len(queue)} wait "
                "(TAILRACE_MAX_TENANT_WAITING_REQUESTS); send fewer at a time",
                headers=_RETRY_AFTER,
            )
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if goes_on:
            queue.appendleft(waiting)
        else:
            queue.append(waiting)
        await self._wait(tenant, waiting)

    async def _wait(self, tenant: str, waiting: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(self._max_wait_s):
                await waiting
        except BaseException as error:
            if waiting.done() and not waiting.cancelled():
                self.end(tenant)  # the turn came together with the exception
            else:
                self._leave(tenant, waiting)
            if isinstance(error, TimeoutError):
                raise RefusedError(
                    503,
                    f"the request has waited {self._max_wait_s:g} s for its turn: "
                    f"{self._at_once} requests of {tenant!r} are answered at a time "
                    "(TAILRACE_MAX_TENANT_REQUESTS); try again",
                    headers=_RETRY_AFTER,
                ) from None
            raise

    def _leave(self, tenant: str, waiting: asyncio.Future[None]) -> None:
        queue = self._queues.get(tenant)
        if queue is not None:
            with contextlib.suppress(ValueError):
                queue.remove(waiting)
            if not queue:
                del self._queues[tenant]

    def end(self, tenant: str) -> None:
        """End a turn; the first request that waits has the next one."""
        queue = self._queues.get(tenant, deque())
        waiting = _first(queue)
        if not queue:
            self._queues.pop(tenant, None)
        if waiting is not None:
            waiting.set_result(None)
        elif (active := self._active.pop(tenant) - 1) > 0:
            self._active[tenant] = active


class Turn:
    """The turn of one request. It holds none while it waits for its body.

    Args:
        turns: the turns of the process.
        tenant: the tenant that sends the request.
        receive: receives the request.
    """

    def __init__(self, turns: TenantTurns, tenant: str, receive: Receive) -> None:
        self._turns = turns
        self._tenant = tenant
        self._receive = receive
        self._has_turn = False
        self._is_complete = False

    def attach(self, scope: Scope) -> None:
        """Let ``end_turn`` find the turn."""
        scope[_SCOPE_KEY] = self

    def detach(self, scope: Scope) -> None:
        """End the turn, and the reference cycle of the scope, its server's cycle and the turn.

        What a stream's request used would otherwise stay until the garbage collector runs.
        """
        self.end()
        scope.pop(_SCOPE_KEY, None)

    async def begin(self, *, goes_on: bool = False) -> None:
        """Wait for the turn, like ``TenantTurns.begin``."""
        await self._turns.begin(self._tenant, goes_on=goes_on)
        self._has_turn = True

    async def receive(self) -> Message:
        """Receive a part of the request.

        Raises:
            RefusedError: The next turn does not come.
        """
        if self._is_complete or not self._has_turn:
            return await self._receive()
        self.end()
        message = await self._receive()
        self._is_complete = not message.get("more_body", False)
        await self.begin(goes_on=True)
        return message

    def end(self) -> None:
        """End the turn, if it has begun."""
        if self._has_turn:
            self._has_turn = False
            self._turns.end(self._tenant)


def end_turn(scope: Scope) -> None:
    """End the turn of a request whose response takes long, or is not sent by ASGI."""
    turn: Turn | None = scope.get(_SCOPE_KEY)
    if turn is not None:
        turn.end()
