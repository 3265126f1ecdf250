"""Decide which messages of a queue may run on this worker now (a gate)."""

from collections.abc import Callable, Hashable
from typing import Protocol


class Gate(Protocol):
    """Admits messages. Its methods are called on the broker's loop and return at once."""

    def admits(self, payload: bytes) -> bool:
        """Return whether a message may run now."""
        ...

    def enter(self, identity: Hashable, payload: bytes) -> None:
        """Count a message that is about to run."""
        ...

    def leave(self, identity: Hashable) -> None:
        """Count a message that has run, or was released."""
        ...

    def set_aside(self, payload: bytes, done: Callable[[bool], None]) -> None:
        """Store a message that may not run now elsewhere, so that it can leave the queue.

        ``done(True)`` acknowledges the message; ``done(False)`` releases it. It is called later, on
        the broker's loop.
        """
        ...
