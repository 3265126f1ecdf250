"""Share the connections of the ``http`` node between tenants."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class ConnectionShares:
    """Admits requests so that slow ones of one tenant leave connections to the others.

    A tenant may hold as many connections as are free, so one tenant alone gets half of them, and a
    tenant that holds none finds one. Requests beyond it wait in their order.

    Args:
        total: the most connections of this process.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @contextlib.asynccontextmanager
    async def hold(self, tenant: str) -> AsyncIterator[None]:
        """Hold a connection for the time of the block; wait for it first."""
        if tenant in self._waiting or not self._may_take(tenant):
            await self._wait(tenant)
        else:
            self._take(tenant)
        try:
            yield
        finally:
            self._release(tenant)

    def _may_take(self, tenant: str) -> bool:
        return self._free > 0 and self._held[tenant] < self._free

    def _take(self, tenant: str) -> None:
        self._free -= 1
        self._held[tenant] += 1

    def _release(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._admit()

    async def _wait(self, tenant: str) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._forget(tenant, turn)
            else:
                self._release(tenant)
            raise

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(tenant, deque())
        with contextlib.suppress(ValueError):
            turns.remove(turn)
        if not turns:
            self._waiting.pop(tenant, None)

    def _admit(self) -> None:
        # Those that hold the fewest come first.
        for tenant in sorted(self._waiting, key=lambda name: self._held[name]):
            while (turns := self._waiting.get(tenant)) and self._may_take(tenant):
                turn = turns[0]
                self._forget(tenant, turn)
                if not turn.cancelled():
                    self._take(tenant)
                    turn.set_result(None)
