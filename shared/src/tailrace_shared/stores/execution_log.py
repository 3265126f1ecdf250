"""Read the event log, for both services, and make the two appends that the API may make.

One execution is one exact subject, so its history is one indexed read. One tenant is one wildcard
subject. Sequences are those of the stream EVENTS.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    HistoryExpiredError,
    IllegalCommandError,
    JetStreamError,
    LaggingReplicaError,
    NewerLogError,
    UnavailableError,
    WrongLastSequenceError,
)
from tailrace_shared.execution import commands
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import EVENTS_VERSION, encode_commits, events_version
from tailrace_shared.execution.events import (
    CommandRequested,
    Event,
    ExecutionQueued,
    Origin,
    referenced_output_bytes,
)
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.nats.fenced_append import VERSION, WRITER, append
from tailrace_shared.nats.jetstream import EXPECTED_LAST_SUBJECT_SEQUENCE, JetStream, StoredMessage
from tailrace_shared.nats.leadership import has_quorum, is_followed_by_all, is_sole, term_of
from tailrace_shared.nats.provision import epoch_of, lost_of, version_of
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.stores.log_records import Commit, History, LogEdge, Recorded, is_newer
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.subjects import LogFilter, Subjects

LISTED: Final = "Tailrace-Listed"
"""The header of a first commit whose execution has a row in the start index."""

_LISTED: Final[Mapping[str, str]] = {LISTED: "1"}
_NO_HEADERS: Final[Mapping[str, str]] = {}
_COMMAND_RETRY_S: Final = 3.0
_PAGE_COMMITS: Final = 64
_PAGE_BYTES: Final = 256 * 1024
_SUBJECTS_PER_READ: Final = 100
# Longer than the interval of heartbeats, by which an older leader learns that it is none.
_SETTLE_S: Final = 1.5

T = TypeVar("T")
Decide = Callable[[ExecutionState], CommandRequested | Sequence[CommandRequested] | None]


class ExecutionLog:
    """Reads the log, creates executions and records commands.

    Reads that interpret commits raise ``NewerLogError`` for one of a newer version of Tailrace.
    Reads of commits that are passed on (``page``, ``find``, ``first``, ``newest``) return it, and
    mark it ``is_newer``.

    Attributes:
        newest_seen: the highest stream sequence that any answer has contained.
    """

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self.newest_seen = 0
        self._jetstream = jetstream
        self._subjects = subjects
        self._stream = subjects.stream(EVENTS)

    async def edge(self, part: LogFilter | None = None) -> LogEdge:
        """Return where the stream begins and ends now, and whether it holds commits of a part."""
        subject = part and self._subjects.log_of(part)
        body = {"subjects_filter": subject, "offset": 0} if subject else None
        info = await self._jetstream.api(f"STREAM.INFO.{self._stream}", body)
        state = info["state"]
        self._note(state["last_seq"])
        return LogEdge(
            epoch_of(info),
            state["first_seq"],
            state["last_seq"],
            bool(info["config"].get("max_age")),
            is_sole(info),
            has_quorum(info),
            subject is None or bool(state.get("subjects")),
            lost_of(info),
            is_followed_by_all(info),
            term_of(info),
        )

    async def is_followed_by_all(self) -> bool:
        """Return whether the log's leader answers, and lately heard from all other replicas."""
        try:
            return (await self.edge()).is_followed_by_all
        except (UnavailableError, JetStreamError):
            return False

    async def on_leader(self, read: Callable[[], Awaitable[T]], at_least: int) -> T:
        """Return what a read of the leader finds, unless an older leader may have answered it.

        During a partition an older leader may answer for some seconds, and lacks the newest
        commits. An answer does not say which leader gave it. So before and after the read, the
        leader must show that it has a quorum, and that all replicas follow it. Otherwise the read
        is repeated when an older leader has given up. A server that is down costs that time.

        Args:
            read: reads from the leader; it should take no longer than a request.
            at_least: a sequence that the log is known to reach.

        Raises:
            LaggingReplicaError: an older leader may have answered.
            UnavailableError: NATS did not answer.
        """
        before = await self._leader_edge(at_least)
        found = await read()
        if before.is_sole:
            return found
        after = await self._leader_edge(at_least)
        if before.is_followed_by_all and after.is_followed_by_all and before.term == after.term:
            return found
        await asyncio.sleep(_SETTLE_S)
        found = await read()
        await self._leader_edge(at_least)
        return found

    async def _leader_edge(self, at_least: int) -> LogEdge:
        edge = await self.edge()
        if edge.last_sequence < at_least or not (edge.is_sole or edge.has_quorum):
            raise LaggingReplicaError("the leader of the log that answered lags behind")
        return edge

    def _note(self, sequence: int) -> None:
        self.newest_seen = max(self.newest_seen, sequence)

    async def topology_version(self) -> int:
        """Return the version of the topology that was applied last."""
        info = await self._jetstream.api(f"STREAM.INFO.{self._stream}")
        return version_of(info["config"])

    async def read(
        self, tenant: str, execution: str, from_sequence: int = 1
    ) -> AsyncIterator[Commit]:
        """Read the commits of one execution from a sequence to the live edge.

        Raises:
            HistoryExpiredError: it is read from the start, and its first commits have expired.
            NewerLogError: a newer version of Tailrace wrote a commit.
        """
        subject = self._subjects.log(tenant, execution)
        must_begin = from_sequence <= 1
        async for message in self._jetstream.read(self._stream, subject, from_sequence):
            commit = _readable(self._commit(message))
            if must_begin and not isinstance(commit.events()[0], ExecutionQueued):
                raise HistoryExpiredError(f"the beginning of execution {execution!r} has expired")
            must_begin = False
            yield commit

    async def page(self, part: LogFilter, from_sequence: int) -> tuple[list[Commit], bool]:
        """Return some commits of a part of the log from a sequence on, and whether more follow."""
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

    async def page_of_all(self, from_sequence: int) -> list[tuple[str, Commit]]:
        """Return some commits of all tenants from a sequence on, each with its tenant."""
        messages, _ = await self._jetstream.batch(
            self._stream,
            {
                "batch": _PAGE_COMMITS,
                "max_bytes": _PAGE_BYTES,
                "seq": max(from_sequence, 1),
                "next_by_subj": self._subjects.logs(),
            },
        )
        return [
            (self._subjects.execution_of(message.subject)[0], self._commit(message))
            for message in messages
        ]

    async def last_sequences(self, parts: Iterable[LogFilter]) -> dict[LogFilter, int]:
        """Return the sequence of the newest commit of each part of the log that has one.

        Executions are read together, from any replica; tenants one by one, from the leader.
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
        """Read all commits of an execution and fold them.

        Args:
            at_least: a sequence that was seen in its log. A replica that does not have it yet is
                asked again.

        Raises:
            ExecutionNotFoundError: the tenant has no such execution.
            HistoryExpiredError: its first commits have expired.
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """

        async def read() -> History:
            history = await self._load(tenant, execution)
            is_behind = history.last_sequence < needed
            if is_behind and await self.last_commit(tenant, execution, at_least) is None:
                raise _not_found(execution)
            return history

        needed = max(at_least, 1)
        return await until_caught_up(
            read, lambda history: history.last_sequence >= needed, f"execution {execution!r}"
        )

    async def load_newest(self, tenant: str, execution: str) -> History:
        """Read and fold an execution up to the leader's last commit. Raises: as :meth:`load`."""
        newest = await self.last_commit(tenant, execution)
        if newest is None:
            raise _not_found(execution)
        if newest.previous == 0:
            # The first commit is the whole log: the usual case of a new execution.
            return _fold_commit(History(ExecutionState(), 0, ""), newest)
        return await self.load(tenant, execution, newest.sequence)

    async def read_on(
        self, tenant: str, execution: str, history: History, at_least: int = 0
    ) -> History:
        """Fold the commits that follow a history into it.

        Args:
            history: what was read before; its state is updated in place.
            at_least: a sequence that is known to be in the log, as for :meth:`load`.

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """

        async def read() -> History:
            nonlocal history
            history = await self._fold_on(tenant, execution, history)
            return history

        return await until_caught_up(
            read, lambda history: history.last_sequence >= at_least, f"execution {execution!r}"
        )

    async def fold_to(self, tenant: str, execution: str, sequence: int) -> ExecutionState:
        """Return an execution as it was right after the commit at ``sequence``.

        Raises:
            IllegalEventError: its log is not a legal path of the state machine.
            UnavailableError: NATS did not answer, or no up-to-date replica did.
        """

        async def read() -> tuple[ExecutionState, int]:
            state, last = ExecutionState(), 0
            async for commit in self.read(tenant, execution):
                if commit.sequence > sequence:
                    break
                last = commit.sequence
                for event in commit.events():
                    state.apply(event)
            return state, last

        state, _last = await until_caught_up(
            read, lambda folded: folded[1] == sequence, f"execution {execution!r}"
        )
        return state

    async def _load(self, tenant: str, execution: str) -> History:
        return await self._fold_on(tenant, execution, History(ExecutionState(), 0, ""))

    async def _fold_on(self, tenant: str, execution: str, history: History) -> History:
        async for commit in self.read(tenant, execution, history.last_sequence + 1):
            history = _fold_commit(history, commit)
        return history

    async def last_commit(self, tenant: str, execution: str, at_least: int = 0) -> Commit | None:
        """Return the newest commit of an execution from the stream's leader, or None.

        Args:
            at_least: a sequence that was seen in its log; 1 if any was. That the log is shorter
                is believed only of a leader that proves that its store works.
        """
        newest = await self.newest(LogFilter(tenant, execution), at_least)
        return None if newest is None else _readable(newest)

    async def driver_of(self, tenant: str, last: Commit) -> str:
        """Return the id of the worker that wrote last to an execution; empty if none has.

        The API writes commands, but names no writer and never drives.

        Args:
            tenant: of the execution.
            last: its newest commit.

        Raises:
            ExecutionNotFoundError: its first commits have expired.
            NewerLogError: a newer version wrote to it.
        """
        if last.writer:
            return last.writer
        return (await self.load(tenant, last.execution, last.sequence)).last_writer

    async def last_commits(
        self, tenant: str, executions: Sequence[str], at_least: int
    ) -> dict[str, Commit]:
        """Return the newest commit of each execution that has one.

        Args:
            executions: their ids; at least one of them must have a commit.
            at_least: the sequence that the answering replica must have reached.

        Raises:
            UnavailableError: NATS did not answer, or no up-to-date replica did.
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

    async def newest(self, part: LogFilter, at_least: int = 0) -> Commit | None:
        """Return the newest commit of a part of the log from the stream's leader, or None."""
        request = {"last_by_subj": self._subjects.log_of(part)}
        message = await self._jetstream.get_newest(self._stream, request, at_least)
        return None if message is None else self._commit(message)

    async def find(self, sequence: int) -> tuple[str, str, Commit] | None:
        """Return the tenant, the execution and the commit at a sequence, from any replica."""
        return self._found(await self._jetstream.get(self._stream, {"seq": sequence}))

    async def find_on_leader(self, sequence: int) -> tuple[str, str, Commit] | None:
        """Return the same as :meth:`find`, from the stream's leader."""
        return self._found(await self._jetstream.get_newest(self._stream, {"seq": sequence}))

    async def find_next(
        self, sequence: int, *, from_leader: bool = False
    ) -> tuple[str, str, Commit] | None:
        """Return the first commit of all tenants from a sequence on, or None.

        A later commit than the one at ``sequence`` proves that that one is deleted: a replica
        stores commits in order, however far it lags.
        """
        get = self._jetstream.get_newest if from_leader else self._jetstream.get
        request = {"seq": sequence, "next_by_subj": self._subjects.logs()}
        return self._found(await get(self._stream, request))

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
        """Create an execution; return its state, or None if it exists already.

        Raises:
            UnavailableError: NATS did not answer; the execution may or may not exist.
        """
        event = commands.create(
            execution, workflow.definition, workflow.version, run_input, time.time(), origin
        )
        try:
            state = fold([event])
            await self._append(tenant, state, event, expected=0, headers=_LISTED)
        except WrongLastSequenceError:
            return None
        return state

    async def delete(self, tenant: str, execution: str, up_to: int) -> None:
        """Delete an execution's log up to a sequence.

        Raises:
            UnavailableError: NATS did not answer; the log may or may not be deleted.
        """
        subject = self._subjects.log(tenant, execution)
        request = {"filter": subject, "seq": up_to + 1}
        await self._jetstream.api(f"STREAM.PURGE.{self._stream}", request)

    async def request(
        self, tenant: str, execution: str, decide: Decide, history: History | None = None
    ) -> Recorded:
        """Record a command on exactly the state that allows it.

        The append is fenced on the state that was decided on. If the log has moved meanwhile, only
        what is new is read: a busy log outruns a reader that begins again each time.

        Args:
            decide: a function of :mod:`tailrace_shared.execution.commands`, bound to everything
                but the state. It is called again on every newer state, and returns one command,
                several that do not depend on each other, or nothing to record.
            history: what the caller has read already; its state is updated in place.

        Raises:
            ExecutionNotFoundError: the tenant has no such execution.
            IllegalCommandError: its state does not allow the command.
            UnavailableError: NATS did not answer; the command may or may not be recorded.
        """
        history = history or await self.load(tenant, execution)
        while True:
            try:
                decided = decide(history.state)
            except IllegalCommandError:
                # An acceptance is fenced. A refusal must not come from a replica that lags.
                newest = await self.last_commit(tenant, execution)
                if newest is None or newest.sequence <= history.last_sequence:
                    raise
                history = await self.read_on(tenant, execution, history, newest.sequence)
                continue
            events = [decided] if isinstance(decided, CommandRequested) else decided
            if not events:
                return Recorded(history.state)
            try:
                # A worker applies the command later, so the status header stays as it is.
                sequence = await self._append(
                    tenant, history.state, *events, expected=history.last_sequence
                )
            except WrongLastSequenceError as error:
                history = await self.read_on(tenant, execution, history, error.last or 0)
                continue
            for event in events:
                history.state.apply(event)
            return Recorded(history.state, sequence)

    async def _append(
        self,
        tenant: str,
        state: ExecutionState,
        *events: Event,
        expected: int,
        headers: Mapping[str, str] = _NO_HEADERS,
    ) -> int:
        """Append events; return the sequence of the last commit."""
        for payload in encode_commits(events):
            expected = await append(
                self._jetstream,
                self._stream,
                self._subjects.log(tenant, state.execution_id),
                payload,
                expected=expected,
                headers={
                    WORKFLOW: state.workflow_id,
                    STATE: str(state.commit_status),
                    VERSION: str(events_version(state)),
                    **headers,
                },
                retry_s=_COMMAND_RETRY_S,
            )
        return expected

    def _commit(self, message: StoredMessage) -> Commit:
        _tenant, execution = self._subjects.execution_of(message.subject)
        headers = message.headers
        previous = headers.get(EXPECTED_LAST_SUBJECT_SEQUENCE, "")
        self._note(message.sequence)
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
            LISTED in headers,
        )


def _fold_commit(history: History, commit: Commit) -> History:
    """Fold a commit into a history, whose state is updated in place."""
    events = commit.events()
    for event in events:
        history.state.apply(event)
    size = history.size + len(commit.payload) + referenced_output_bytes(events)
    # A command of the API does not make it the driver of the execution.
    writer = commit.writer or history.last_writer
    is_listed = history.is_listed or commit.is_listed
    return History(history.state, commit.sequence, writer, size, commit.time, is_listed)


def _not_found(execution: str) -> ExecutionNotFoundError:
    return ExecutionNotFoundError(f"there is no execution {execution!r}")


def _readable(commit: Commit) -> Commit:
    if commit.is_newer:
        raise NewerLogError(
            "the execution was written by a newer version of Tailrace "
            f"(this one reads events {EVENTS_VERSION})"
        )
    return commit
