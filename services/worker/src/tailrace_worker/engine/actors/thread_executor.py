"""An executor whose only thread is the one that calls it: the Dramatiq thread of a message.

A synchronous node function runs there, so that Dramatiq's middleware applies to it: a time limit
interrupts the function itself, and ``CurrentMessage`` is available. While the function is
asynchronous, or its attempt has not started, the thread waits here.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from dramatiq.middleware import Interrupt, raise_thread_exception

# An interrupt reaches a thread only while it runs Python code, so it must not block for ever.
_POLL_S: Final = 0.5

T = TypeVar("T")


class AttemptInterrupted(Interrupt):
    """Raised in a node function whose result is no longer wanted."""


class DramatiqThreadExecutor(Executor):
    """Runs in :meth:`serve` what other threads submit."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], object]]] = SimpleQueue()
        self._current: Future[Any] | None = None
        self._thread = threading.get_ident()
        self._is_closed = False
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        return self._is_busy

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        self._calls.put((future, partial(call, *args, **kwargs)))
        return future

    def close(self) -> None:
        """Let :meth:`serve` return as soon as no function is running."""
        self._is_closed = True
        self._calls.put((Future(), _wake))

    def interrupt(self) -> None:
        """Raise an exception in the running function, where the platform supports it."""
        if self._is_busy:
            raise_thread_exception(self._thread, AttemptInterrupted)

    def serve(self, on_interrupt: Callable[[Interrupt], object]) -> None:
        """Run submitted functions on the calling thread until the executor is closed.

        Args:
            on_interrupt: called with each interrupt that another thread, or a function itself, has
                raised in this thread.
        """
        while True:
            try:
                # The loop is inside: an interrupt may also come between two calls.
                while not self._is_closed:
                    self._serve_one()
            except Interrupt as interrupt:
                # Before the future ends: a stopped attempt needs no outcome.
                on_interrupt(interrupt)
                self._fail_current(interrupt)
            else:
                return

    def _serve_one(self) -> None:
        try:
            future, call = self._calls.get(timeout=_POLL_S)
        except Empty:
            return
        self._current = future
        self._is_busy = True
        try:
            if future.set_running_or_notify_cancel():
                future.set_result(call())
        except Interrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - of any class: the thread must go on
            self._fail_current(error)
        finally:
            self._is_busy = False

    def _fail_current(self, error: BaseException) -> None:
        """End the interrupted function's future, which otherwise would never end."""
        future, self._current = self._current, None
        if future is not None and not future.done():
            future.set_exception(error)


def _wake() -> None:
    pass
