"""An executor whose only thread is the one that calls it: the Dramatiq thread of a message.

A synchronous node function runs there, so that Dramatiq's middleware sees it: its time limit
interrupts the function itself, and the message that is being processed is at hand. While the
function is asynchronous, or the attempt is still to begin, the thread waits here.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from dramatiq.middleware import Interrupt, raise_thread_exception

# An interrupt reaches a thread only when it runs Python code, so it must not wait for ever.
_LONGEST_WAIT: Final = 0.5

T = TypeVar("T")


class AttemptInterrupted(Interrupt):
    """Raised in a node function whose result is not wanted any more."""


class DramatiqThreadExecutor(Executor):
    """Runs in :meth:`serve` what is submitted from elsewhere."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.get_ident()
        self._is_closed = False
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        """Whether a function runs."""
        return self._is_busy

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Have the thread call a function."""
        future: Future[T] = Future()
        self._calls.put(partial(_run, future, partial(call, *args, **kwargs)))
        return future

    def close(self) -> None:
        """Let the thread go as soon as it is free."""
        self._is_closed = True
        self._calls.put(_nothing)

    def interrupt(self) -> None:
        """Raise an exception in the function that runs, where the platform can."""
        if self._is_busy:
            raise_thread_exception(self._thread, AttemptInterrupted)

    def serve(self, interrupted: Callable[[Interrupt], object]) -> None:
        """Run what is submitted, on the calling thread, until the executor is closed.

        Args:
            interrupted: told of each exception that somebody raised in this thread from outside.
        """
        while True:
            try:
                # The loop is inside: an interrupt comes wherever Python looks, between calls too.
                while not self._is_closed:
                    self._serve()
            except Interrupt as interrupt:
                interrupted(interrupt)
            else:
                return

    def _serve(self) -> None:
        try:
            call = self._calls.get(timeout=_LONGEST_WAIT)
        except Empty:
            return
        self._is_busy = True
        try:
            call()
        finally:
            self._is_busy = False


def _run(future: "Future[T]", call: Callable[[], T]) -> None:
    if future.set_running_or_notify_cancel():
        # Only an interrupt can come out of it: a node's errors are outcomes.
        future.set_result(call())


def _nothing() -> None:
    pass
