"""Let the openings of streams take turns, so that a thousand at once delay no other request.

Opening a stream takes milliseconds of CPU. A tenant whose clients reconnect together would occupy
the event loop for seconds. So only a few openings advance at a time, and the tenants that wait are
served in turn.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_MAX_RUNNING: Final = 16


class Turns:
    """The openings that advance now, and those that wait."""

    def __init__(self) -> None:
        self._running = 0
        # By tenant, in the order in which they are served.
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        """Advance meanwhile, once it is the turn of a tenant."""
        if self._running >= _MAX_RUNNING:
            await self._wait(tenant)
        else:
            self._running += 1
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, tenant: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give a turn to the next that waits."""
        while self._waiting:
            tenant = next(iter(self._waiting))
            turns = self._waiting.pop(tenant)
            turn = turns.popleft()
            if turns:
                # At the end of the line: each tenant has one turn at a time.
                self._waiting[tenant] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1
