"""Store messages that will not run again, and let operators inspect them.

The calls block and may come from any thread.
"""

import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from tailrace_shared.stores.dead_letters import (
    DeadLetter,
    DeadLetters,
    dead_letter_headers,
    without_traceback,
)
from tailrace_worker.broker.counts import QueueCounts
from tailrace_worker.broker.link.connector import Connector
from tailrace_worker.broker.link.delivery import Delivery
from tailrace_worker.broker.stream_writer import StreamWriter

T = TypeVar("T")


class DeadLetterWriter:
    """Stores delivered messages as dead letters."""

    def __init__(self, connector: Connector, writer: StreamWriter) -> None:
        self._connector = connector
        self._writer = writer

    def write(
        self, queue: str, delivery: Delivery, reason: str, exception: BaseException | None
    ) -> None:
        """Store a dead letter.

        Raises:
            ConnectionClosed: JetStream did not confirm it.
        """
        headers = dead_letter_headers(
            delivery.headers,
            queue=queue,
            subject=delivery.subject,
            deliveries=delivery.deliveries,
            reason=reason,
            error="" if exception is None else f"{type(exception).__name__}: {exception}",
            traceback="".join(traceback.format_exception(exception)) if exception else "",
        )
        # Derived from the message, so that JetStream deduplicates a retry after a lost answer.
        headers["Nats-Msg-Id"] = "dead-{}-{}".format(*delivery.identity)
        publish = self._writer.prepare(
            self._connector.subjects.dead(queue),
            delivery.data,
            headers,
            partial(_count_dead, self._connector.counts[queue]),
        )
        if publish.size > self._writer.max_payload:
            publish.headers = without_traceback(publish.headers)
        self._writer.post(publish, reserved_bytes=0)
        self._writer.confirm(publish)


class DeadLetterAdmin:
    """Lists, replays and purges dead letters.

    Every method raises Dramatiq's ``ConnectionClosed`` or ``ConnectionFailed`` while NATS is away.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector

    def list(
        self, queue_name: str | None = None, *, limit: int = 100, after: int = 0
    ) -> list[DeadLetter]:
        """Return dead letters, oldest first.

        Args:
            queue_name: the queue they came from; None for all queues.
            after: the sequence after which to begin.
        """
        return self._call(lambda letters: letters.list(queue_name, limit=limit, after=after))

    def get(self, sequence: int) -> DeadLetter | None:
        return self._call(lambda letters: letters.get(sequence))

    def replay(self, letter: DeadLetter) -> None:
        """Put a dead letter back on its queue, with all its retries."""
        self._call(lambda letters: letters.replay(letter))

    def replay_all(self, queue_name: str | None = None) -> int:
        """Replay the dead letters of one queue, or of all; return how many."""
        return self._call(lambda letters: letters.replay_all(queue_name))

    def delete(self, sequence: int) -> None:
        self._call(lambda letters: letters.delete(sequence))

    def purge(self, queue_name: str | None = None) -> int:
        """Delete the dead letters of one queue, or of all; return how many."""
        return self._call(lambda letters: letters.purge(queue_name))

    def _call(self, operation: Callable[[DeadLetters], Coroutine[Any, Any, T]]) -> T:
        connection = self._connector.get()
        letters = DeadLetters(connection.jetstream, connection.subjects)
        return connection.call(lambda: operation(letters), timeout=None)


def _count_dead(counts: QueueCounts) -> None:
    counts.dead += 1
