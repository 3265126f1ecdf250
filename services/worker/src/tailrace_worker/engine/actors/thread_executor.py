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
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.get_ident()
        self._is_closed = False
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        return self._is_busy

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        future: Future[T] = Future()
        self._calls.put(partial(_run, future, partial(call, *args, **kwargs)))
        return future

    def close(self) -> None:
        """Let :meth:`serve` return as soon as no function is running."""
        self._is_closed = True
        self._calls.put(_wake)

    def interrupt(self) -> None:
        """Raise an exception in the running function, where the platform supports it."""
        if self._is_busy:
            raise_thread_exception(self._thread, AttemptInterrupted)

    def serve(self, on_interrupt: Callable[[Interrupt], object]) -> None:
        """Run submitted functions on the calling thread until the executor is closed.

        Args:
            on_interrupt: called with each exception that another thread raised in this one.
        """
        while True:
            try:
                # The loop is inside: an interrupt may also come between two calls.
                while not self._is_closed:
                    self._serve_one()
            except Interrupt as interrupt:
                on_interrupt(interrupt)
            else:
                return

    def _serve_one(self) -> None:
        try:
            call = self._calls.get(timeout=_POLL_S)
        except Empty:
            return
        self._is_busy = True
        try:
            call()
        finally:
            self._is_busy = False


def _run(future: "Future[T]", call: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        # It raises interrupts only: errors of nodes are outcomes.
        future.set_result(call())


def _wake() -> None:
    pass
