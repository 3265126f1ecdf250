"""An event loop in a daemon thread, called from the threads of Dramatiq.

Actors enqueue and acknowledge on worker threads, and consumers block on threads of their own.
``post`` appends a call to a queue and wakes the loop once, however many threads post before it
wakes. So their messages leave in one write.
"""

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import nats.errors
import uvloop
from dramatiq.errors import ConnectionClosed
from dramatiq.logging import get_logger

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_worker.broker.link.errors import refused

T = TypeVar("T")

_CALL_TIMEOUT_S: Final = 30.0
_JOIN_TIMEOUT_S: Final = 5.0


class LoopThread:
    """Runs an event loop in a thread until ``stop``."""

    def __init__(self) -> None:
        self._logger = get_logger(__name__, type(self))
        self._calls: deque[Callable[[], object]] = deque()
        self._is_woken = False
        self._is_stopped = False
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="nats-connection", daemon=True)
        self._thread.start()

    def post(self, function: Callable[[], object]) -> None:
        """Have the loop call ``function`` soon. Calls keep their order.

        Raises:
            ConnectionClosed: the loop has ended.
        """
        self._calls.append(function)
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._make_calls)
            except RuntimeError:
                raise ConnectionClosed("the broker is closed") from None

    def call(
        self,
        function: Callable[[], Coroutine[Any, Any, T]],
        timeout: float | None = _CALL_TIMEOUT_S,
    ) -> T:
        """Run a coroutine on the loop and return its result.

        Args:
            timeout: seconds to wait for it; None for no limit.

        Raises:
            ConnectionClosed: NATS did not answer in time, or the loop has ended.
            BrokerError: NATS refused.
        """
        if self._is_stopped:
            raise ConnectionClosed("the broker is closed")
        future = asyncio.run_coroutine_threadsafe(function(), self._loop)
        try:
            return future.result(timeout)
        except (TimeoutError, concurrent.futures.CancelledError):
            future.cancel()
            raise ConnectionClosed(f"NATS did not answer within {timeout} s") from None
        except (UnavailableError, nats.errors.Error) as error:
            raise ConnectionClosed(str(error)) from error
        except JetStreamError as error:
            raise refused(error) from error

    def stop(self) -> None:
        self._is_stopped = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_TIMEOUT_S)

    def _make_calls(self) -> None:
        # Cleared first: a call posted while this runs must wake the loop again.
        self._is_woken = False
        while self._calls:
            try:
                self._calls.popleft()()
            except Exception:
                # A call that fails must not strand the acks behind it.
                self._logger.exception("posted call failed")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
