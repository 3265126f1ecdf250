"""Lines: executions that wait for a place, in the order in which they came.

A place in a line is one message on a subject of its own; its sequence is its turn. Joining is
fenced on that subject, so whoever joins again keeps the turn that they have.
"""

from typing import Final

from tailrace_shared.errors import WrongLastSequenceError
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE, JetStream
from tailrace_shared.nats.topology import LINES
from tailrace_shared.subjects import Subjects

_FIRST: Final = {EXPECTED_LAST_SUBJECT_SEQUENCE: "0"}


class FifoQueue:
    """All lines of an installation. Who is where is asked of the stream's leader."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(LINES)

    async def join(self, line: str, tenant: str, execution: str) -> None:
        """Put an execution at the end of a line; one that is in it keeps its place."""
        try:
            subject = self._subjects.in_line(line, tenant, execution)
            await self._jetstream.publish(subject, b"", _FIRST)
        except WrongLastSequenceError:
            return

    async def first(self, line: str) -> tuple[str, str] | None:
        """Return the tenant and execution that have waited longest, or None."""
        request = {"seq": 1, "next_by_subj": self._subjects.line(line)}
        message = await self._jetstream.get_newest(self._stream, request)
        if message is None:
            return None
        tenant, execution = message.subject.split(".")[-2:]
        return tenant, execution

    async def leave(self, line: str, tenant: str, execution: str) -> bool:
        """Take an execution out of a line; tells whether it was in it."""
        subject = self._subjects.in_line(line, tenant, execution)
        answer = await self._jetstream.api(f"STREAM.PURGE.{self._stream}", {"filter": subject})
        return bool(answer["purged"])
