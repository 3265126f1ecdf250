"""Run long computations in threads, fairly between tenants."""

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.workflow import pace

_MAX_TENANTS: Final = 10_000

P = ParamSpec("P")
T = TypeVar("T")


class FairThreads:
    """Runs functions in threads, one at a time for each tenant.

    A function that validates pauses for as long as it computes, see ``workflow.pace``.

    Args:
        threads: how many functions may run at once.
    """

    def __init__(self, threads: int = 1) -> None:
        self._slots = asyncio.Semaphore(threads)
        self._turns: TtlCache[str, asyncio.Lock] = TtlCache(_MAX_TENANTS)

    async def run(
        self, tenant: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what ``function`` returns, after all earlier calls for the tenant."""
        turn = self._turns.get(tenant)
        if turn is None:
            turn = asyncio.Lock()
            self._turns.put(tenant, turn)
        async with turn, self._slots:

            def paced() -> T:
                pace.begin()
                return function(*args, **kwargs)

            return await asyncio.to_thread(paced)
