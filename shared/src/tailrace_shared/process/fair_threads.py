"""Run long computations in threads, fairly between tenants."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.workflow import pace

_MAX_TENANTS: Final = 10_000
_THREADS: Final = 8

P = ParamSpec("P")
T = TypeVar("T")


class FairThreads:
    """Runs functions in threads: one at a time for each tenant, and one tenant's at a time.

    A function that validates pauses for as long as it computes, see ``workflow.pace``. At a pause
    the function of the next tenant goes on, so that a long one delays others by milliseconds. More
    threads at a time would only compete with the event loop for the interpreter's lock.

    Args:
        threads: how many functions may have begun.
    """

    def __init__(self, threads: int = _THREADS) -> None:
        self._slots = asyncio.Semaphore(threads)
        self._executor = ThreadPoolExecutor(threads, "fair")
        self._turns: TtlCache[str, asyncio.Lock] = TtlCache(_MAX_TENANTS)
        self._baton = _Baton()

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
                with self._baton:
                    pace.begin(self._baton.pass_on)
                    try:
                        return function(*args, **kwargs)
                    finally:
                        pace.pause()

            run = contextvars.copy_context().run
            return await asyncio.get_running_loop().run_in_executor(self._executor, run, paced)


class _Baton:
    """A lock that threads get in the order in which they ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_held = False
        self._queue: deque[threading.Event] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if not self._is_held:
                self._is_held = True
                return
            own = self._enqueue()
        own.wait()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._is_held = False

    def pass_on(self) -> None:
        """Let the other threads that wait go first."""
        with self._lock:
            if not self._queue:
                return
            own = self._enqueue()
            self._queue.popleft().set()
        own.wait()

    def _enqueue(self) -> threading.Event:
        own = threading.Event()
        self._queue.append(own)
        return own
