"""The dead letters, for programs that use the broker: the calls block, from any thread."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tailrace_shared.stores.dead_letters import DeadLetter, DeadLetters
from tailrace_worker.broker.link.connection import Connector

T = TypeVar("T")


class DeadLetterAdmin:
    """Lists, replays and purges dead letters.

    Every method raises Dramatiq's ``ConnectionClosed`` or ``ConnectionFailed`` while NATS is away.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def list(
        self, queue_name: str | None = None, *, limit: int = 100, after: int = 0
    ) -> list[DeadLetter]:
        """Return up to ``limit`` dead letters, oldest first, from those after a sequence."""
        return self._call(lambda letters: letters.list(queue_name, limit=limit, after=after))

    def get(self, sequence: int) -> DeadLetter | None:
        """Return one dead letter, or None if there is no such."""
        return self._call(lambda letters: letters.get(sequence))

    def replay(self, letter: DeadLetter) -> None:
        """Put a dead letter back on its queue, with all its retries."""
        self._call(lambda letters: letters.replay(letter))

    def replay_all(self, queue_name: str | None = None) -> int:
        """Replay every dead letter that is there now; return how many."""
        return self._call(lambda letters: letters.replay_all(queue_name))

    def delete(self, sequence: int) -> None:
        """Delete one dead letter for good."""
        self._call(lambda letters: letters.delete(sequence))

    def purge(self, queue_name: str | None = None) -> int:
        """Delete all dead letters, or those of one queue; return how many."""
        return self._call(lambda letters: letters.purge(queue_name))

    def _call(self, operation: Callable[[DeadLetters], Coroutine[Any, Any, T]]) -> T:
        connection = self._connector.get()
        letters = DeadLetters(connection.jetstream, connection.subjects)
        return connection.call(lambda: operation(letters), timeout=None)
