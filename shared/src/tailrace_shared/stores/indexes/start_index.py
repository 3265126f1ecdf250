"""The start index: one row for each execution, in the order in which executions were started.

A row is written before its execution exists and never changes, so it is a message of a stream and
not a key of a bucket. A workflow is one subject: JetStream finds the newest rows of few subjects at
once, however many there are, but not the newest of a million keys.

Executions that were started before this index existed have rows of another kind, which are older
than all others (``backfill_starts``). An execution that failed or was cancelled has a second row,
in the order of the ends: of very many runs few fail, so reading all rows to find them costs too
much.

A tag of an execution has a row, too, written at the start: the runs with a tag are found without
reading others.

A row may be there twice, if its start or its end was repeated; readers skip the second one. A row
may have no execution, if its start was never completed, or if the execution has been deleted.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, Self

import msgspec

from tailrace_shared.errors import InvalidIdError, TemporarilyUnavailableError
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import check_id
from tailrace_shared.nats.jetstream import MESSAGE_ID, JetStream, StoredMessage
from tailrace_shared.nats.read_backwards import read_backwards
from tailrace_shared.nats.topology import STARTS
from tailrace_shared.subjects import Subjects

# Short enough for a sequence of JetStream.
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
STARTED: Final = ""
"""The kind of the rows that are written at a start."""
BACKFILLED: Final = "backfilled"
"""The kind of the rows of executions that were started before the index existed."""
ENDED: Final = ("failed", "cancelled")
"""The kinds of the rows that are written at an end: the status of the execution."""

_TAGGED: Final = "tag-"
_LETTERS: Final = {STARTED: "s", BACKFILLED: "b", "failed": "f", "cancelled": "c"}
_TAG_LETTER: Final = "t"
_ROWS_PER_READ: Final = 250
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


class RowPosition(NamedTuple):
    """A place among the rows of one kind.

    Attributes:
        sequence: the stream sequence of the row.
        kind: the kind of the row.
    """

    sequence: int
    kind: str

    def __str__(self) -> str:
        return f"{_letter(self.kind)}{self.sequence}"

    @classmethod
    def parse(cls, text: str, kinds: Sequence[str]) -> Self | None:
        """Return the position that a text describes among rows of some kinds, or None."""
        number = text[1:]
        for kind in kinds:
            if text[:1] == _letter(kind) and _NUMBER.fullmatch(number):
                return cls(int(number), kind)
        return None


def kind_of_tag(tag: str) -> str:
    """Return the kind of the rows of a tag."""
    return f"{_TAGGED}{check_id(tag, 'tag')}"


def is_of_tag(kind: str) -> bool:
    """Return whether rows of a kind are those of a tag."""
    return kind.startswith(_TAGGED)


def _letter(kind: str) -> str:
    return _LETTERS.get(kind, _TAG_LETTER)


class StartRow(NamedTuple):
    """A row of the index."""

    tenant: str
    workflow: str
    start: Start
    position: RowPosition
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
        kind = BACKFILLED if is_backfilled else STARTED
        await self._add(self._subjects.start(tenant, workflow, kind), f"{tenant}.", start)

    async def add_tag(self, tenant: str, workflow: str, start: Start, tag: str) -> None:
        """Add the row of a tag of an execution. Call it before the execution exists.

        Raises:
            UnavailableError: NATS did not answer; the row may or may not be stored.
        """
        kind = kind_of_tag(tag)
        await self._add(self._subjects.start(tenant, workflow, kind), f"{kind}.{tenant}.", start)

    async def add_end(self, tenant: str, workflow: str, start: Start, status: str) -> None:
        """Add the row of an execution that has ended in one of the statuses ``ENDED``.

        Raises:
            UnavailableError: NATS did not answer; the row may or may not be stored.
        """
        await self._add(self._subjects.start(tenant, workflow, status), f"end.{tenant}.", start)

    async def _add(self, subject: str, id_prefix: str, start: Start) -> None:
        headers = {MESSAGE_ID: id_prefix + start.execution_id}
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
        self,
        tenant: str,
        workflow: str | None,
        at_once: int,
        after: RowPosition | None = None,
        kinds: Sequence[str] = (STARTED, BACKFILLED),
    ) -> AsyncIterator[list[StartRow]]:
        """Read the rows of a tenant, or of one of its workflows, from the newest on.

        Args:
            tenant: the tenant.
            workflow: the workflow, or None for all.
            at_once: how many rows to read at once.
            after: the row after which to begin, of one of ``kinds``; None for the newest.
            kinds: the kinds of the rows, one after the other.

        Raises:
            UnavailableError: NATS did not answer.
        """
        for kind in kinds if after is None else kinds[kinds.index(after.kind) :]:
            pattern = self._subjects.start(tenant, workflow, kind)
            before = after.sequence if after is not None and after.kind == kind else None
            while page := await read_backwards(
                self._jetstream, self.stream, pattern, at_once, before=before
            ):
                yield [self._row(message) for message in page]
                if len(page) < at_once:
                    break
                before = page[-1].sequence

    async def position_at(
        self, tenant: str, workflow: str | None, kind: str, time: float
    ) -> RowPosition | None:
        """Return the first row of a kind that was written at a time or later, or None.

        Args:
            tenant: the tenant.
            workflow: the workflow, or None for all.
            kind: the kind of the rows.
            time: seconds since the epoch, by the clock of NATS.

        Raises:
            UnavailableError: NATS did not answer.
        """
        request = {
            "batch": 1,
            "start_time": format_timestamp(max(time, 0.0)),
            "next_by_subj": self._subjects.start(tenant, workflow, kind),
        }
        page, _ = await self._jetstream.batch(self.stream, request)
        return RowPosition(page[0].sequence, kind) if page else None

    async def oldest_first(self, sequence: int) -> AsyncIterator[StartRow]:
        """Read the rows of all tenants from a sequence on, in the order of the stream.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for message in self._jetstream.read(self.stream, ">", sequence):
            yield self._row(message)

    async def executions_since(self, tenant: str, workflow: str, time: float) -> set[str]:
        """Return the executions of a workflow whose rows were written since a time, at least.

        Args:
            tenant: the tenant.
            workflow: the workflow.
            time: seconds since the epoch, by the clock of NATS.

        Raises:
            UnavailableError: NATS did not answer.
        """
        found: set[str] = set()
        for kind in (STARTED, BACKFILLED):
            pattern = self._subjects.start(tenant, workflow, kind)
            before: int | None = None
            while page := await read_backwards(
                self._jetstream, self.stream, pattern, _ROWS_PER_READ, before=before
            ):
                found |= {_decode(message.data).execution_id for message in page}
                if len(page) < _ROWS_PER_READ or page[-1].time < time:
                    break
                before = page[-1].sequence
        return found

    async def backfilled_at(self) -> float:
        """Return when the last row of an older execution was written, or 0.

        Raises:
            UnavailableError: NATS did not answer.
        """
        request = {"last_by_subj": self._subjects.starts_of_all(BACKFILLED)}
        newest = await self._jetstream.get_newest(self.stream, request)
        return 0.0 if newest is None else newest.time

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
        tenant, workflow, kind = self._subjects.start_of(message.subject)
        position = RowPosition(message.sequence, kind)
        return StartRow(tenant, workflow, _decode(message.data), position, message.time)


def position_of(cursor: str, kinds: Sequence[str] = (STARTED, BACKFILLED)) -> RowPosition:
    """Return the position in a cursor of a list of rows of some kinds.

    Raises:
        InvalidIdError: it is none, for example an execution id, which was a cursor before 0.3.
    """
    position = RowPosition.parse(cursor, kinds)
    if position is None:
        raise InvalidIdError(
            f"cursor: {cursor[:80]!r} is not a cursor of this list; begin again without one"
        )
    return position
