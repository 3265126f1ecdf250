"""The event log, as the services read it, and the two appends that the API may make.

One execution is one exact subject, so its history is one indexed read, and one tenant is one
wildcard. Sequences are those of the stream EVENTS.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    HistoryExpiredError,
    IllegalCommandError,
    NewerLogError,
    UnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.execution import commands
from tailrace_shared.execution.commit_status import STATE, WORKFLOW, CommitStatus
from tailrace_shared.execution.commits import EVENTS_VERSION, decode_commit, encode_commits
from tailrace_shared.execution.events import (
    CommandRequested,
    Event,
    ExecutionQueued,
    Origin,
    referenced_output_bytes,
)
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.ids import new_token
from tailrace_shared.nats.fenced_append import VERSION, WRITER, append
from tailrace_shared.nats.jetstream import (
    EXPECTED_LAST_SUBJECT_SEQUENCE,
    LAG,
    JetStream,
    StoredMessage,
)
from tailrace_shared.nats.provision import epoch_of
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.subjects import LogFilter, Subjects

_COMMAND_PATIENCE: Final = 3.0
_PAGE_COMMITS: Final = 64
_PAGE_BYTES: Final = 256 * 1024
_SUBJECTS_PER_READ: Final = 100


class Commit(NamedTuple):
    """One message of the log.

    Attributes:
        sequence: its stream sequence.
        payload: a JSON array of events.
        writer: who appended it; empty for the API.
        execution: whose it is.
        time: when the stream took it, in seconds since the epoch.
        workflow: its execution's workflow; empty where an older version wrote it.
        told: what its headers say of how the execution stands after it.
        is_newer: whether a newer version of Tailrace wrote it: what it means nobody knows here.
        previous: the sequence of the execution's commit before it, 0 for the first; None where
            that is not known.
    """

    sequence: int
    payload: bytes
    writer: str
    execution: str = ""
    time: float = 0.0
    workflow: str = ""
    told: str = ""
    is_newer: bool = False
    previous: int | None = None

    @property
    def standing(self) -> CommitStatus | None:
        """How the execution stands after it; None if that is not said."""
        return CommitStatus.parse(self.told)

    def events(self) -> list[Event]:
        """Decode the events."""
        return decode_commit(self.payload)


class History(NamedTuple):
    """An execution as its log tells it.

    Attributes:
        state: the execution.
        last_sequence: the sequence of the last commit that was read.
        last_writer: who of those that drive it has written last.
        size: the bytes of all that was read, with the outputs that are kept elsewhere.
    """

    state: ExecutionState
    last_sequence: int
    last_writer: str
    size: int = 0


class LogEdge(NamedTuple):
    """The epoch of the stream's ids, and the first and last sequence that it holds."""

    epoch: str
    first_sequence: int
    last_sequence: int


class ExecutionLog:
    """Reads the log; appends creations and requests.

    Every read of an execution raises ``NewerLogError`` where it meets a commit of a newer version
    of Tailrace: what such a commit means, this one cannot know. Reads of any part of the log, whose
    readers pass on what they read, only say so (``is_newer``).
    """

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(EVENTS)

    async def edge(self) -> LogEdge:
        """Return where the stream begins and ends now."""
        info = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        state = info["state"]
        return LogEdge(epoch_of(info), state["first_seq"], state["last_seq"])

    async def read(
        self, tenant: str, execution: str, from_sequence: int = 1
    ) -> AsyncIterator[Commit]:
        """Read the commits of one execution from a sequence to the live edge."""
        subject = self._subjects.log(tenant, execution)
        async for message in self._jetstream.read(self._stream, subject, from_sequence):
            yield _readable(self._commit(message))

    async def page(self, part: LogFilter, from_sequence: int) -> tuple[list[Commit], bool]:
        """Return some commits of a part of the log from a sequence on, and whether there are more.

        Raises:
            UnavailableError: NATS did not answer.
        """
        messages, pending = await self._jetstream.batch(
            self._stream,
            {
                "batch": _PAGE_COMMITS,
                "max_bytes": _PAGE_BYTES,
                "seq": max(from_sequence, 1),
                "next_by_subj": self._subjects.log_of(part),
            },
        )
        return [self._commit(message) for message in messages], pending > 0

    async def last_sequences(self, parts: Iterable[LogFilter]) -> dict[LogFilter, int]:
        """Return the sequence of the newest commit of each part of the log that has one.

        Executions are asked for together, as a replica has them; tenants one by one.
        """
        parts = set(parts)
        found = await self._last_of_executions([part for part in parts if part.execution])
        for part in parts:
            if not part.execution and (newest := await self.newest(part)):
                found[part] = newest.sequence
        return found

    async def _last_of_executions(self, parts: Sequence[LogFilter]) -> dict[LogFilter, int]:
        subjects = [self._subjects.log_of(part) for part in parts]
        found: dict[LogFilter, int] = {}
        for start in range(0, len(subjects), _SUBJECTS_PER_READ):
            sequence, pending = 1, 1
            while pending:
                messages, pending = await self._jetstream.batch(
                    self._stream,
                    {
                        "multi_last": subjects[start : start + _SUBJECTS_PER_READ],
                        "batch": _SUBJECTS_PER_READ,
                        "max_bytes": _PAGE_BYTES,
                        "seq": sequence,
                    },
                )
                for message in messages:
                    part = LogFilter(*self._subjects.execution_of(message.subject))
                    found[part] = message.sequence
                    sequence = message.sequence + 1
                pending = pending if messages else 0
        return found

    async def load(self, tenant: str, execution: str, at_least: int = 0) -> History:
        """Read an execution whole and fold it.

        Args:
            tenant: whose execution.
            execution: which execution.
            at_least: a sequence that is known to be in its log; a replica that does not have it
                yet is asked again.

        Raises:
            ExecutionNotFoundError: the tenant has no such execution.
            HistoryExpiredError: its first commits are gone by age.
            UnavailableError: NATS did not answer, or no replica that is up to date.
        """
        for pause in LAG:
            history = await self._load(tenant, execution)
            if history.last_sequence and history.last_sequence >= at_least:
                return history
            newest = await self.last_commit(tenant, execution)
            if newest is None:
                raise ExecutionNotFoundError(f"there is no execution {execution!r}")
            at_least = newest.sequence
            await asyncio.sleep(pause)
        raise UnavailableError(f"the log of {execution!r} cannot be read up to date")

    async def load_newest(self, tenant: str, execution: str) -> History:
        """Read an execution as the stream's leader has it: a replica may lag. Raises: as `load`."""
        newest = await self.last_commit(tenant, execution)
        return await self.load(tenant, execution, 0 if newest is None else newest.sequence)

    async def read_on(
        self, tenant: str, execution: str, history: History, at_least: int = 0
    ) -> History:
        """Take what has been appended since into a history, and return that.

        Args:
            tenant: whose execution.
            execution: which execution.
            history: what was read before; it is not to be used any more.
            at_least: as for :meth:`load`.

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
        """
        for pause in LAG:
            state, last_sequence, writer, size = history
            async for commit in self.read(tenant, execution, last_sequence + 1):
                events = commit.events()
                for event in events:
                    state.apply(event)
                last_sequence, writer = commit.sequence, commit.writer or writer
                size += len(commit.payload) + referenced_output_bytes(events)
            history = History(state, last_sequence, writer, size)
            if last_sequence >= at_least:
                return history
            await asyncio.sleep(pause)
        raise UnavailableError(f"the log of {execution!r} cannot be read up to date")

    async def _load(self, tenant: str, execution: str) -> History:
        state, last_sequence, writer, size = ExecutionState(), 0, "", 0
        async for commit in self.read(tenant, execution):
            events = commit.events()
            if not last_sequence and not isinstance(events[0], ExecutionQueued):
                raise HistoryExpiredError(f"the beginning of execution {execution!r} has expired")
            for event in events:
                state.apply(event)
            # A request of the API does not make it the one who drives the execution.
            last_sequence, writer = commit.sequence, commit.writer or writer
            size += len(commit.payload) + referenced_output_bytes(events)
        return History(state, last_sequence, writer, size)

    async def last_commit(self, tenant: str, execution: str) -> Commit | None:
        """Return the newest commit of an execution, as the stream's leader has it, or None."""
        newest = await self.newest(LogFilter(tenant, execution))
        return None if newest is None else _readable(newest)

    async def last_commits(
        self, tenant: str, executions: Sequence[str], at_least: int
    ) -> dict[str, Commit]:
        """Return the newest commit of each execution that has one.

        Args:
            tenant: whose.
            executions: which; one of them is known to have a commit.
            at_least: what has this sequence or a lower one must be known to whoever answers.

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
        """
        subjects = [self._subjects.log(tenant, execution) for execution in executions]
        found = await self._jetstream.last_of(self._stream, subjects, at_least)
        commits = map(self._commit, found.values())
        return {commit.execution: commit for commit in commits}

    async def first(self, tenant: str, execution: str) -> Commit | None:
        """Return the first commit of an execution that the log still holds, or None."""
        request = {"seq": 1, "next_by_subj": self._subjects.log(tenant, execution)}
        message = await self._jetstream.get(self._stream, request)
        message = message or await self._jetstream.get_newest(self._stream, request)
        return None if message is None else self._commit(message)

    async def newest(self, part: LogFilter) -> Commit | None:
        """Return the newest commit of a part of the log, as the stream's leader has it, or None."""
        subject = self._subjects.log_of(part)
        message = await self._jetstream.get_newest(self._stream, {"last_by_subj": subject})
        return None if message is None else self._commit(message)

    async def find(self, sequence: int) -> tuple[str, str, Commit] | None:
        """Return the tenant, the execution and the commit at a sequence, or None."""
        return self._found(await self._jetstream.get(self._stream, {"seq": sequence}))

    async def find_surely(self, sequence: int) -> tuple[str, str, Commit] | None:
        """Return the same as ``find``, as the stream's leader has it."""
        return self._found(await self._jetstream.get_newest(self._stream, {"seq": sequence}))

    def _found(self, message: StoredMessage | None) -> tuple[str, str, Commit] | None:
        if message is None:
            return None
        tenant, execution = self._subjects.execution_of(message.subject)
        return tenant, execution, self._commit(message)

    async def create(
        self,
        tenant: str,
        execution: str,
        workflow: StoredWorkflow,
        run_input: Any,
        origin: Origin = Origin(),  # noqa: B008 - frozen
    ) -> ExecutionState | None:
        """Bring an execution into being; None if it exists already.

        Raises:
            UnavailableError: NATS did not answer; the execution may or may not exist.
        """
        event = commands.create(
            execution, workflow.definition, workflow.version, run_input, time.time(), origin
        )
        try:
            state = fold([event])
            await self._append(tenant, state, event, expected=0)
        except WrongLastSequenceError:
            return None
        return state

    async def request_cancel(self, tenant: str, execution: str, reason: str) -> ExecutionState:
        """Record durably that an execution is to be cancelled; returns its state.

        Raises: as :meth:`request`.
        """
        command_id = new_token()
        return await self.request(
            tenant,
            execution,
            lambda state: commands.request_cancel(state, command_id, reason, time.time()),
        )

    async def request(
        self,
        tenant: str,
        execution: str,
        ask: Callable[[ExecutionState], CommandRequested | None],
    ) -> ExecutionState:
        """Record a command durably, on the very state that allows it; returns that state.

        Args:
            tenant: whose execution.
            execution: which execution.
            ask: one of the functions of :mod:`tailrace_shared.execution.commands`, bound to all
                but the state; called again whenever the execution has gone on meanwhile.

        Raises:
            ExecutionNotFoundError: the tenant has no such execution.
            IllegalCommandError: its state does not allow the command.
            UnavailableError: NATS did not answer; the command may or may not be recorded.
        """
        history = await self.load(tenant, execution)
        while True:
            try:
                event = ask(history.state)
            except IllegalCommandError:
                # An acceptance is fenced; a refusal must not come from a replica that lags.
                newest = await self.last_commit(tenant, execution)
                if newest is None or newest.sequence <= history.last_sequence:
                    raise
                history = await self.read_on(tenant, execution, history, newest.sequence)
                continue
            if event is None:
                return history.state
            try:
                # A command is applied by a worker: how the execution stands it changes nothing.
                await self._append(tenant, history.state, event, expected=history.last_sequence)
            except WrongLastSequenceError as lost:
                # It went on meanwhile; ask of what it is now. A busy log outruns whoever reads it
                # from its beginning again and again.
                history = await self.read_on(tenant, execution, history, lost.last or 0)
                continue
            history.state.apply(event)
            return history.state

    async def _append(
        self, tenant: str, state: ExecutionState, event: Event, *, expected: int
    ) -> None:
        for payload in encode_commits([event]):
            await append(
                self._jetstream,
                self._stream,
                self._subjects.log(tenant, state.execution_id),
                payload,
                expected=expected,
                told={WORKFLOW: state.workflow_id, STATE: str(state.standing)},
                patience=_COMMAND_PATIENCE,
            )

    def _commit(self, message: StoredMessage) -> Commit:
        _tenant, execution = self._subjects.execution_of(message.subject)
        headers = message.headers
        previous = headers.get(EXPECTED_LAST_SUBJECT_SEQUENCE, "")
        return Commit(
            message.sequence,
            message.data,
            headers.get(WRITER, ""),
            execution,
            message.time,
            headers.get(WORKFLOW, ""),
            headers.get(STATE, ""),
            is_newer(headers),
            int(previous) if previous.isdecimal() else None,
        )


def is_newer(headers: Mapping[str, str]) -> bool:
    """Tell whether a commit with these headers was written by a newer version of Tailrace."""
    version = headers.get(VERSION, "1")
    return version.isdecimal() and int(version) > EVENTS_VERSION


def _readable(commit: Commit) -> Commit:
    if commit.is_newer:
        raise NewerLogError(
            "the execution was written by a newer version of Tailrace "
            f"(this one reads events {EVENTS_VERSION})"
        )
    return commit
