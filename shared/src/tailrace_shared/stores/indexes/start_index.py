"""The start index: one row for each execution, in the order in which executions were started.

A row is written before its execution exists and never changes, so it is a message of a stream and
not a key of a bucket. A workflow is one subject: JetStream finds the newest rows of few subjects at
once, however many there are, but not the newest of a million keys.

Executions that were started before this index existed have rows under subjects of their own, which
are older than all others (``backfill``).

An execution may have two rows, if its start was repeated; readers skip the second one. A row may
have no execution, if its start was never completed, or if the execution has been deleted.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final, NamedTuple, Self

import msgspec

from tailrace_shared.errors import InvalidIdError, TemporarilyUnavailableError
from tailrace_shared.nats.jetstream import MESSAGE_ID, JetStream, StoredMessage
from tailrace_shared.nats.read_backwards import read_backwards
from tailrace_shared.nats.topology import STARTS
from tailrace_shared.subjects import Subjects

# Short enough for a sequence of JetStream.
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_PUBLISH_TRIES: Final = 20
_PUBLISH_PAUSE_S: Final = 0.05


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """The start of an execution.

    Attributes:
        execution_id: the execution.
        version: the version of its workflow.
        created_at: when it was started (RFC 3339).
        parent: the execution whose step started it, or None.
    """

    execution_id: str
    version: int = 0
    created_at: str | None = None
    parent: str | None = None


class StartPosition(NamedTuple):
    """A place in the order of starts.

    Attributes:
        sequence: the stream sequence of the row.
        is_backfilled: whether it is among the rows of executions before the index.
    """

    sequence: int
    is_backfilled: bool

    def __str__(self) -> str:
        return f"{'b' if self.is_backfilled else 's'}{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the position that a text describes, or None."""
        kind, number = text[:1], text[1:]
        if kind not in ("s", "b") or _NUMBER.fullmatch(number) is None:
            return None
        return cls(int(number), kind == "b")


class StartRow(NamedTuple):
    """A row of the index."""

    tenant: str
    workflow: str
    start: Start
    position: StartPosition
    written_at: float


_decode = msgspec.json.Decoder(Start).decode


class StartIndex:
    """Writes and reads the start index."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self.stream: Final = subjects.stream(STARTS)

    async def add(
        self, tenant: str, workflow: str, start: Start, *, is_backfilled: bool = False
    ) -> None:
        """Add the row of an execution. Call it before the execution exists.

        Raises:
            UnavailableError: NATS did not answer; the row may or may not be stored.
        """
        subject = self._subjects.start(tenant, workflow, is_backfilled=is_backfilled)
        headers = {MESSAGE_ID: f"{tenant}.{start.execution_id}"}
        for _ in range(_PUBLISH_TRIES):
            try:
                await self._jetstream.publish(subject, msgspec.json.encode(start), headers)
            except TemporarilyUnavailableError:
                # The leader may be storing the same row for another request.
                await asyncio.sleep(_PUBLISH_PAUSE_S)
            else:
                return
        await self._jetstream.publish(subject, msgspec.json.encode(start), headers)

    async def newest_first(
        self, tenant: str, workflow: str | None, at_once: int, after: StartPosition | None = None
    ) -> AsyncIterator[list[StartRow]]:
        """Read the rows of a tenant, or of one of its workflows, from the newest on.

        Args:
            tenant: the tenant.
            workflow: the workflow, or None for all.
            at_once: how many rows to read at once.
            after: the row after which to begin; None for the newest.

        Raises:
            UnavailableError: NATS did not answer.
        """
        for is_backfilled in (False, True):
            if after is not None and after.is_backfilled and not is_backfilled:
                continue
            pattern = self._subjects.start(tenant, workflow, is_backfilled=is_backfilled)
            begins_here = after is not None and after.is_backfilled == is_backfilled
            before = after.sequence if after is not None and begins_here else None
            while page := await read_backwards(
                self._jetstream, self.stream, pattern, at_once, before=before
            ):
                yield [self._row(message) for message in page]
                if len(page) < at_once:
                    break
                before = page[-1].sequence

    async def oldest_first(self, sequence: int) -> AsyncIterator[StartRow]:
        """Read the rows of all tenants from a sequence on, in the order of the stream.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for message in self._jetstream.read(self.stream, ">", sequence):
            yield self._row(message)

    async def first_sequence(self) -> int:
        """Return the sequence of the oldest row.

        Raises:
            UnavailableError: NATS did not answer.
        """
        info = await self._jetstream.api(f"STREAM.INFO.{self.stream}")
        first: int = info["state"]["first_seq"]
        return first

    async def remove_up_to(self, sequence: int) -> None:
        """Remove all rows of all tenants up to a sequence.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._jetstream.api(f"STREAM.PURGE.{self.stream}", {"seq": sequence + 1})

    async def remove(self, row: StartRow) -> None:
        """Remove a row.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._jetstream.delete(self.stream, row.position.sequence)

    def _row(self, message: StoredMessage) -> StartRow:
        tenant, workflow, is_backfilled = self._subjects.start_of(message.subject)
        position = StartPosition(message.sequence, is_backfilled)
        return StartRow(tenant, workflow, _decode(message.data), position, message.time)


def position_of(cursor: str) -> StartPosition:
    """Return the position in a cursor.

    Raises:
        InvalidIdError: it is none, for example an execution id, which was a cursor before 0.3.
    """
    position = StartPosition.parse(cursor)
    if position is None:
        raise InvalidIdError(
            f"cursor: {cursor[:80]!r} is not a cursor of this list; begin again without one"
        )
    return position
