"""Measures and empties queues, across all processes of an installation."""

from collections.abc import Iterable
from functools import partial
from typing import Final, NamedTuple

from dramatiq.errors import BrokerError

from tailrace_shared.nats.jetstream import subject_counts
from tailrace_shared.nats.topology import JOBS
from tailrace_worker.broker import priorities
from tailrace_worker.broker.link.connector import Connector
from tailrace_worker.broker.link.errors import refusal_code

#: Direct Get's error code for more matching subjects than it returns at once.
_TOO_MANY_SUBJECTS: Final = 413


class QueueBacklog(NamedTuple):
    """How many messages a queue has.

    Attributes:
        queued: messages that wait to run or are running.
        delayed: messages whose due time has not come.
    """

    queued: int
    delayed: int


class QueueAdmin:
    """Blocking operations on whole queues.

    Every method raises Dramatiq's ``ConnectionClosed`` or ``ConnectionFailed`` while NATS is away.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._subjects = connector.subjects
        self._stream = connector.subjects.stream(JOBS)

    def backlog(self, queues: Iterable[str]) -> dict[str, QueueBacklog]:
        connection = self._connector.get()
        counts = connection.call(partial(subject_counts, connection.jetstream, self._stream))
        return {queue: self._backlog_of(queue, counts) for queue in queues}

    def is_empty(self, queue: str) -> bool:
        """Return whether a queue has no messages: none waiting, none delayed, none running."""
        connection = self._connector.get()
        # One request, answered from one state of the stream: a message that moves from its
        # schedule to its queue, or back for a retry, is seen in one or the other.
        request = {"multi_last": self._subjects_of(queue), "batch": 1}
        try:
            page, _ = connection.call(partial(connection.jetstream.batch, self._stream, request))
        except BrokerError as error:
            if refusal_code(error) == _TOO_MANY_SUBJECTS:
                return False
            raise
        return not page

    def flush(self, queue: str) -> None:
        for subject in self._subjects_of(queue):
            self._purge(subject)

    def cancel_delayed(self, queue: str, schedule_id: str) -> bool:
        return self._purge(self._subjects.job_at(queue, schedule_id)) > 0

    def cancel_recurring(self, queue: str, schedule_id: str) -> bool:
        return self._purge(self._subjects.job_cron(queue, schedule_id)) > 0

    def _backlog_of(self, queue: str, counts: dict[str, int]) -> QueueBacklog:
        delayed = self._subjects.delayed(queue).removesuffix("*")
        return QueueBacklog(
            queued=sum(
                counts.get(self._subjects.job(queue, name), 0) for name in priorities.CLASSES
            ),
            delayed=sum(subject.startswith(delayed) for subject in counts),
        )

    def _subjects_of(self, queue: str) -> list[str]:
        subject = self._subjects.job(queue)
        # Its priority classes are one token below; a schedule id is one token, too.
        return [subject, f"{subject}.*", self._subjects.delayed(queue)]

    def _purge(self, subject: str) -> int:
        connection = self._connector.get()
        answer = connection.call(
            partial(connection.jetstream.api, f"STREAM.PURGE.{self._stream}", {"filter": subject})
        )
        purged: int = answer["purged"]
        return purged
