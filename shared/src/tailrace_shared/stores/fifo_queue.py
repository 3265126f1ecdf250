"""FIFO queues of executions, stored in one stream.

A place in a queue is one message on a subject of its own, and its sequence is the order. Joining is
fenced on that subject, so an execution that joins again keeps its place.
"""

from typing import Final

from tailrace_shared.errors import WrongLastSequenceError
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE, JetStream
from tailrace_shared.nats.topology import LINES
from tailrace_shared.subjects import Subjects

_FIRST: Final = {EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}


class FifoQueue:
    """All queues of an installation. Reads go to the stream's leader."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(LINES)

    async def join(self, queue: str, tenant: str, execution: str) -> None:
        """Append an execution to a queue; one that is queued already keeps its place."""
        try:
            subject = self._subjects.in_line(queue, tenant, execution)
            await self._jetstream.publish(subject, b"", _FIRST)
        except WrongLastSequenceError:
            return

    async def first(self, queue: str) -> tuple[str, str] | None:
        """Return the tenant and id of the execution at the head of a queue, or None."""
        request = {"seq": 1, "next_by_subj": self._subjects.line(queue)}
        message = await self._jetstream.get_newest(self._stream, request)
        if message is None:
            return None
        tenant, execution = message.subject.split(".")[-2:]
        return tenant, execution

    async def has(self, queue: str, tenant: str, execution: str) -> bool:
        """Return whether an execution is in a queue."""
        request = {"last_by_subj": self._subjects.in_line(queue, tenant, execution)}
        return await self._jetstream.get_newest(self._stream, request) is not None

    async def leave(self, queue: str, tenant: str, execution: str) -> bool:
        """Remove an execution from a queue; return whether it was queued."""
        subject = self._subjects.in_line(queue, tenant, execution)
        answer = await self._jetstream.api(f"STREAM.PURGE.{self._stream}", {"filter": subject})
        return bool(answer["purged"])
