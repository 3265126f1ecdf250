"""A gate before a queue's messages: which of them may run on this worker now."""

from collections.abc import Callable
from typing import Protocol

from tailrace_worker.broker.link.delivery import Delivery

OnSetAside = Callable[[bool], None]
"""Called on the broker's loop: whether the message is stored elsewhere."""


class Gate(Protocol):
    """Admits messages. Its methods are called on the broker's loop and return at once."""

    def admits(self, delivery: Delivery) -> bool:
        """Return whether a message may run now."""
        ...

    def enter(self, delivery: Delivery) -> None:
        """Count a message that is about to run."""
        ...

    def leave(self, delivery: Delivery) -> None:
        """Count a message that has run, or was released."""
        ...

    def set_aside(self, delivery: Delivery, done: OnSetAside) -> None:
        """Store a message that may not run now elsewhere, so that it can leave the queue.

        ``done(True)`` acknowledges the message; ``done(False)`` releases it.
        """
        ...
