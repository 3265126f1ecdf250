"""The newest commits of a tenant, passed to the topics that they concern.

Commits come in the order of the log. A topic names the execution or the workflows that it shows, so
a commit costs nothing to the topics of others. If a topic needs the first event of an execution
that this process has not seen begin, the tenant's later commits wait until it has been read.

The last commits are kept for a while (the window). From them, a topic that begins now catches up
with its snapshot, and reaches back to where its clients were on another replica: after a
deployment, a thousand clients with as many sets of topics cost one read of what they missed.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

import structlog

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, Dialect
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.tenants.live_executions import LogEnd
from tailrace_api.fanout.topics.commit_window import CommitWindow
from tailrace_api.fanout.topics.live_subscription import LiveCommit
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.topic import TopicSources
from tailrace_api.fanout.views.view import Logged, View
from tailrace_shared.errors import JetStreamError, LaggingReplicaError, UnavailableError
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import LogFilter

_RETRY_S: Final = 0.25
_POLL_S: Final = 0.001
# Time for a commit that is in the log to arrive by itself.
_GRACE_S: Final = 0.1
# Commits that wait for the first event of an execution.
_MAX_QUEUED: Final = 4096
_MAX_QUEUED_BYTES: Final = 16 * 1024 * 1024
_WINDOW_COMMITS: Final = 256
_WINDOW_BYTES: Final = 256 * 1024
# The window after it has reached back for clients, and for how long.
_WIDE_COMMITS: Final = 4096
_WIDE_BYTES: Final = 4 * 1024 * 1024
_WIDE_S: Final = 60.0
# Clients that reconnect together were at almost the same place.
_MARGIN: Final = 512
_OVERHEAD_BYTES: Final = 4 * 1024


_log = structlog.get_logger("tailrace.api.fanout")


class Listener(Protocol):
    """A topic that takes a tenant's commits."""

    view: View

    @property
    def is_overrun(self) -> bool:
        """Whether sweeps must run before the ring evicts unsent commits."""

    def take(self, commit: Logged, context: Context, stored_at: float) -> None:
        """Take the next commit that may concern the topic."""

    def end(self, reason: str) -> None:
        """End the streams of the topic."""


class Live(Protocol):
    """The live log, as a tail sees it."""

    edge: int
    ready: asyncio.Event
    is_closed: bool

    def note_edge(self, sequence: int) -> None:
        """Note that the log reaches at least to ``sequence``."""

    async def changed(self) -> None:
        """Wait until the edge, or that of a tail, has moved."""

    def wake(self) -> None:
        """Wake those that wait for a change."""


class TenantTail:
    """The live end of a tenant's log.

    Attributes:
        newest: the tenant's newest commit up to the edge, or None.
        ready: set when the newest commit is known.
        window: the tenant's commits up to the edge; it begins when the first one is taken or the
            live log is ready.
    """

    def __init__(
        self,
        tenant: str,
        live: Live,
        sources: TopicSources,
        runtime: StreamRuntime,
        account: MemoryAccount,
    ) -> None:
        self.tenant = tenant
        self.newest: Logged | None = None
        self.ready = asyncio.Event()
        self.window = CommitWindow(account)
        self.users = 0
        self._live = live
        self._sources = sources
        self._runtime = runtime
        self._account = account
        account.add(_OVERHEAD_BYTES)
        self._all: dict[Listener, None] = {}
        self._by_execution: dict[str, dict[Listener, None]] = {}
        self._by_workflow: dict[str, dict[Listener, None]] = {}
        self._queue: deque[LiveCommit] = deque()
        # The bytes of commits that wait, since the queue was empty.
        self._queued_bytes = 0
        self._resolving: asyncio.Task[None] | None = None
        self._resolved: dict[str, Context] = {}
        self._keepers = 0
        self._wide_until = 0.0
        self._reaching_back = asyncio.Lock()
        self._is_closed = False

    @property
    def edge(self) -> int:
        """The sequence up to which all commits of the tenant have been taken by its topics."""
        return self._queue[0].sequence - 1 if self._queue else self._live.edge

    def end(self, epoch: str, dialect: Dialect) -> StreamPosition:
        """Return the position of the newest event up to the edge, in a dialect."""
        edge, index = self.edge, 0
        if self.newest is not None and self.newest.sequence == edge:
            index = max(dialect.last_index(_events(self.newest.payload)), 0)
        return StreamPosition(epoch, edge, index)

    async def run(self) -> None:
        """Learn the newest commit; return when topics can begin."""
        await self._live.ready.wait()
        # Commits that came while the live log began are in the window already.
        self.window.begin(self.edge + 1)
        while not self._is_closed:
            try:
                end = await self._log_end()
            except (UnavailableError, JetStreamError):
                await asyncio.sleep(_RETRY_S)
                continue
            if self.newest is None or (end.commit and end.sequence > self.newest.sequence):
                self.newest = end.commit
            await self.reached(end.sequence)
            if self.newest is not None and self.window.oldest is None:
                # Most clients that reconnect have this commit's id.
                self.window.prepend([self.newest], self.newest.sequence)
                self.trim()
            self.ready.set()
            return

    async def _log_end(self) -> LogEnd:
        """Return the end of the tenant's log, certainly no older than the edge.

        Topics believe that the tenant has nothing after it. So the answer must not be that of an
        older leader, which says nothing about who it is.

        Raises:
            UnavailableError: NATS did not answer, or only an older leader.
        """
        sources, tenant = self._sources, self.tenant
        return await sources.log.on_leader(lambda: sources.snapshots.log_end(tenant), self.edge)

    async def reached(self, sequence: int) -> None:
        """Wait until the edge has reached a sequence at which the log has a commit."""
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._reached(sequence)
        except TimeoutError:
            self._live.note_edge(sequence)
            await self._reached(sequence)

    async def _reached(self, sequence: int) -> None:
        while self.edge < sequence and not (self._is_closed or self._live.is_closed):
            await self._live.changed()

    def close(self) -> None:
        """Release the memory; the tail takes no more commits."""
        self._is_closed = True
        self.ready.set()
        if self._resolving is not None:
            self._resolving.cancel()
        self._account.close()
        self._live.wake()

    def end_all(self, reason: str) -> None:
        for listener in tuple(self._listeners()):
            listener.end(reason)

    @property
    def is_overrun(self) -> bool:
        """Whether sweeps must run before the ring of a topic evicts unsent commits."""
        return any(listener.is_overrun for listener in self._listeners())

    def _listeners(self) -> Iterator[Listener]:
        yield from self._all
        for each in (*self._by_execution.values(), *self._by_workflow.values()):
            yield from each

    # Topics

    def add(self, listener: Listener) -> None:
        """Pass the commits after the edge that concern a topic to it."""
        for listeners in self._places(listener):
            listeners[listener] = None

    def remove(self, listener: Listener) -> None:
        """Stop passing commits to a topic."""
        for listeners in self._places(listener):
            listeners.pop(listener, None)
        view = listener.view
        if view.part.execution and not self._by_execution.get(view.part.execution):
            self._by_execution.pop(view.part.execution, None)
        for workflow in view.dialect.workflows or ():
            if not self._by_workflow.get(workflow):
                self._by_workflow.pop(workflow, None)

    def _places(self, listener: Listener) -> list[dict[Listener, None]]:
        view = listener.view
        if view.part.execution:
            return [self._by_execution.setdefault(view.part.execution, {})]
        if (workflows := view.dialect.workflows) is not None:
            return [self._by_workflow.setdefault(workflow, {}) for workflow in workflows]
        return [self._all]

    # Commits

    def take(self, commit: LiveCommit) -> bool:
        """Take the next commit; return whether sweeps must run before rings evict unsent ones."""
        self._queue.append(commit)
        if self._resolving is None:
            return self._pass_on()
        self._queued_bytes += len(commit.payload)
        if len(self._queue) > _MAX_QUEUED or self._queued_bytes > _MAX_QUEUED_BYTES:
            self.end_all("lagged")
        return False

    def _pass_on(self) -> bool:
        is_overrun = False
        while self._queue and not self._is_closed:
            commit = self._queue[0]
            context = self._context_of(commit)
            if context is None:
                self._resolving = asyncio.create_task(self._resolve())
                break
            for listener in self._concerned(context):
                is_overrun |= self._pass_to(listener, commit, context)
            self._queue.popleft()
            self.newest = commit
            self.window.append(commit)
            self.trim()
        return is_overrun

    def _pass_to(self, listener: Listener, commit: LiveCommit, context: Context) -> bool:
        try:
            listener.take(commit, context, commit.stored_at)
        except Exception:  # noqa: BLE001 - a bug in one topic must not affect the others
            _log.exception("topic failed", part=listener.view.part, sequence=commit.sequence)
            listener.end("failed")
        return listener.is_overrun

    def _concerned(self, context: Context) -> Sequence[Listener]:
        listeners = [*self._all]
        if self._by_execution and (mine := self._by_execution.get(context.execution_id)):
            listeners += mine
        if self._by_workflow and (mine := self._by_workflow.get(context.workflow_id)):
            listeners += mine
        return listeners

    def _context_of(self, commit: LiveCommit) -> Context | None:
        """Return what topics need to know of an execution; None if it must be read."""
        self._sources.contexts.learn(self.tenant, commit.execution, commit.payload)
        context = Context(commit.execution, commit.workflow)
        if not self._is_needed(commit, context):
            return context
        return self._resolved.get(commit.execution) or self._sources.contexts.known(
            self.tenant, commit.execution
        )

    def _is_needed(self, commit: LiveCommit, context: Context) -> bool:
        if self._by_workflow and not commit.workflow:
            return True
        return any(
            is_context_needed(listener.view, commit, context)
            for listener in self._concerned(context)
        )

    async def _resolve(self) -> None:
        is_overrun = False
        while self._queue and not self._is_closed:
            names = {commit.execution for commit in self._queue}
            try:
                self._resolved = await self._sources.contexts.of(self.tenant, names)
            except LaggingReplicaError:
                await self._end_if_torn(self._queue[0].sequence)
                continue
            except (UnavailableError, JetStreamError):
                await asyncio.sleep(_RETRY_S)
                continue
            self._resolving, self._queued_bytes = None, 0
            is_overrun = self._pass_on()
            self._live.wake()
            break
        self._resolved = {}
        while is_overrun and not self._is_closed:
            await asyncio.sleep(_POLL_S)
            is_overrun = self.is_overrun

    async def _end_if_torn(self, first: int) -> None:
        """End the streams if an execution that has not been shown yet may have been deleted.

        The clients reconnect, and each learns by its id whether it has missed events.
        """
        try:
            is_torn = await self._sources.horizons.of(self.tenant) >= first
        except (UnavailableError, JetStreamError):
            return
        if is_torn:
            self.end_all("lagged")

    # The window

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep as many commits in the window meanwhile as it can ever have."""
        self._keepers += 1
        try:
            yield
        finally:
            self._keepers -= 1

    def trim(self) -> None:
        """Release what the window need not keep, all of it if memory is short."""
        most, most_bytes = _WINDOW_COMMITS, _WINDOW_BYTES
        if self._account.refusal:
            most = 0
        if self._keepers or (most and self._runtime.now() < self._wide_until):
            most, most_bytes = _WIDE_COMMITS, _WIDE_BYTES
        self.window.trim(most, most_bytes)

    async def reach_back(self, sequence: int) -> bool:
        """Extend the window back to a sequence; return whether it reaches there now.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        async with self._reaching_back:
            self._wide_until = self._runtime.now() + _WIDE_S
            if sequence >= self.window.floor:
                return True
            if self.edge - sequence > _WIDE_COMMITS or self._account.refusal:
                return False
            with self.keeping():
                return await self._extend(sequence, max(sequence - _MARGIN, 1))

    async def _extend(self, sequence: int, first: int) -> bool:
        commits: list[Commit] = []
        end = self.window.floor
        # The commit that proves that the replica that answers has everything before the window.
        last = self.window.oldest or self.newest
        while last is not None and first < end and first <= last.sequence:
            page = await self._page(first)
            commits += [commit for commit in page if commit.sequence < end]
            if sum(len(commit.payload) for commit in commits) > _WIDE_BYTES:
                return False
            first = page[-1].sequence + 1
        floor = max(sequence - _MARGIN, 1, await self._sources.horizons.of(self.tenant) + 1)
        if self.window.floor != end:
            return False  # so much has been committed meanwhile that the window has lost its start
        self.window.prepend([commit for commit in commits if commit.sequence >= floor], floor)
        return sequence >= self.window.floor

    async def _page(self, first: int) -> Sequence[Commit]:
        async def read() -> Sequence[Commit]:
            self._runtime.counts.reads += 1
            return (await self._sources.log.page(LogFilter(self.tenant), first))[0]

        return await until_caught_up(read, bool, f"tenant {self.tenant!r}")


def is_context_needed(view: View, commit: Logged, context: Context) -> bool:
    """Return whether a view needs more of an execution than a commit itself says to show it.

    Args:
        context: what the commit says.
    """
    match view.dialect.needs:
        case "nothing":
            return False
        case "workflow":
            return not commit.workflow
        case _:
            return view.dialect.concerns(context, commit.payload)


async def contexts_for(
    sources: TopicSources, view: View, commits: Iterable[Logged]
) -> dict[str, Context]:
    """Return what a view needs to show some commits, by execution.

    Raises:
        UnavailableError: NATS did not answer, or only replicas that lag.
    """
    known: dict[str, Context] = {}
    unknown: set[str] = set()
    tenant = view.part.tenant
    for commit in commits:
        context = Context(commit.execution, commit.workflow)
        if is_context_needed(view, commit, context):
            sources.contexts.learn(tenant, commit.execution, commit.payload)
            unknown.add(commit.execution)
        else:
            known.setdefault(commit.execution, context)
    return known | await sources.contexts.of(tenant, unknown)


def _events(payload: bytes) -> int:
    try:
        return len(split_commit(payload))
    except ILLEGIBLE:
        return 0
