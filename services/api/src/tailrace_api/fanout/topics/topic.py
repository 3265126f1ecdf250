"""A part of the log in one dialect (a topic), live while a connection follows it.

Live commits are encoded once into the topic's ring, in order and without a gap. One task guarantees
that. It subscribes, then reads the newest commit from the log, where the ring begins. A live commit
is appended at once if no commit can be missing before it. Any other live commit only tells that the
log is further on, and the task reads the log up to there. So three cases are one: messages lost on
the way (core NATS delivers at most once), messages out of order, and commits of executions whose
context is not known yet. Live commits need no buffer of their own.

If the dialect has a state, the ring begins at a snapshot of the tenant, and the state takes every
commit that is appended. So the state always corresponds to the ring's edge.

Sweeps (`tailrace_api.fanout.topics.sweeper`) write the ring to the followers.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import AwaitsWorkflows, State
from tailrace_api.dialects.encoding import with_last_id
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.tenants.snapshots import Snapshots
from tailrace_api.fanout.topics.live_subscription import LiveCommit, LiveSubscription
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.sweeper import Follower, Sweeper
from tailrace_api.fanout.views.view import Logged, View
from tailrace_api.sse.chunk import chunk
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.stores.execution_log import Commit, ExecutionLog
from tailrace_shared.stores.horizon_store import HorizonStore

_RETRY_S: Final = 0.25
_POLL_S: Final = 0.001
# A topic that catches up for longer checks whether what it waits for has been deleted.
_LONG_S: Final = 1.0
# Memory of a topic beside its ring and its state.
_OVERHEAD_BYTES: Final = 12 * 1024


class TopicSources(NamedTuple):
    """The sources of topics."""

    log: ExecutionLog
    contexts: Contexts
    snapshots: Snapshots
    horizons: HorizonStore


class Topic:
    """The live end of a part of the log.

    Attributes:
        ring: the newest commits; None until the topic knows where the log ends.
        state: the state of the dialect at the ring's edge, if it has one.
    """

    def __init__(
        self, view: View, runtime: StreamRuntime, bounds: RingBounds, account: MemoryAccount
    ) -> None:
        self.view = view
        self.epoch = runtime.epoch
        self.followers: set[Follower] = set()
        self.ring: Ring | None = None
        self.state: State | None = None
        # The encoded opening, with the ring edge and the second for which it is valid.
        self._opening: tuple[int, int, bytes] | None = None
        self._contexts: Contexts | None = None
        self._bounds = bounds
        self._account = account
        self._state_bytes = 0
        account.add(_OVERHEAD_BYTES)
        self._counts = runtime.counts
        self._sweeper = Sweeper(runtime, self.followers, account, bounds)
        # The highest sequence that the log is known to reach.
        self._known_edge = 0
        self._behind = asyncio.Event()
        self._is_closed = False

    def receive(self, commit: LiveCommit) -> bool:
        """Take a live commit; return whether sweeps must run before the ring evicts unsent ones."""
        ring = self.ring
        if ring is None:
            self.note_edge(commit.sequence)
        elif commit.sequence > ring.edge:
            context = self._context_of(commit)
            if context is not None and self._is_next(commit, ring.edge):
                if self._append(ring, commit, context):
                    self._sweeper.unswept_times.append(commit.stored_at)
            else:
                self.note_edge(commit.sequence)
        return self._sweeper.is_overrun

    def _context_of(self, commit: LiveCommit) -> Context | None:
        if (context := self.view.context(commit)) is not None or self._contexts is None:
            return context
        tenant = self.view.part.tenant
        learned = self._contexts.learn(tenant, commit.execution, commit.payload)
        return learned or self._contexts.known(tenant, commit.execution)

    def _is_next(self, commit: LiveCommit, edge: int) -> bool:
        if self.view.part.execution:
            return commit.previous <= edge
        # The predecessor is that of the commit's own execution. Only the log can tell which commits
        # of other executions lie between, unless the sequences are adjacent.
        return commit.sequence == edge + 1

    @property
    def known_edge(self) -> int:
        """The highest sequence that the part of the log is known to reach."""
        return max(self._known_edge, self.ring.edge if self.ring else 0)

    def note_edge(self, sequence: int) -> None:
        """Note that the log reaches at least to ``sequence``."""
        if sequence > self._known_edge:
            self._known_edge = sequence
            self._behind.set()

    def close(self) -> None:
        """Release the memory and stop the topic's task."""
        self._is_closed = True
        self._account.close()
        self._behind.set()

    def evict_sent(self) -> None:
        """Evict the ring's commits that all followers have been sent, unless a sweep is pending."""
        if self.ring and self._sweeper.is_idle:
            self.ring.evict_through(self.ring.edge)

    def end(self, reason: str) -> None:
        self._sweeper.end_all(reason)

    def opening(self, milliseconds: int) -> bytes:
        """Return the first chunk of a stream that begins at the ring's edge; empty if it has none.

        Its last block has the position of the edge.
        """
        ring, second = self.ring, milliseconds // 1000
        if ring is None:
            raise RuntimeError("a topic without a ring has no edge")
        if self._opening is None or self._opening[:2] != (ring.edge, second):
            blocks = self.opening_blocks(milliseconds)
            wire = chunk(with_last_id(blocks, str(ring.end)))
            self._opening = (ring.edge, second, wire)
        return self._opening[2]

    def opening_blocks(self, milliseconds: int) -> Sequence[Block]:
        """Return the blocks of a stream that begins at the ring's edge."""
        return self.state.opening(milliseconds) if self.state else ()

    @property
    def missing(self) -> frozenset[str]:
        return self.state.missing if isinstance(self.state, AwaitsWorkflows) else frozenset()

    def add_workflows(self, workflows: Collection[str]) -> None:
        if workflows and isinstance(self.state, AwaitsWorkflows):
            self.state.add_workflows(workflows)
            self._opening = None

    async def run(
        self, subscription: LiveSubscription, sources: TopicSources, subject: str
    ) -> None:
        """Keep the ring complete until the topic is closed."""
        self._contexts = sources.contexts
        # Not cancelled while it subscribes: that would leak the subscription.
        if not await self._subscribe(subscription, subject):
            return
        try:
            while not self._is_closed:
                self._behind.clear()
                try:
                    await self._catch_up(sources)
                except (UnavailableError, JetStreamError):
                    await asyncio.sleep(_RETRY_S)
                    continue
                await self._behind.wait()
        finally:
            self._sweeper.cancel_lazy_sweep()
            await subscription.unsubscribe(subject, self.receive)

    async def _subscribe(self, subscription: LiveSubscription, subject: str) -> bool:
        while not self._is_closed:
            try:
                await subscription.subscribe(subject, self.receive)
            except UnavailableError:
                await asyncio.sleep(_RETRY_S)
            else:
                return True
        return False

    async def _catch_up(self, sources: TopicSources) -> None:
        ring = self.ring or await self._create_ring(sources)
        began_at = asyncio.get_running_loop().time()
        while ring.edge < self._known_edge and not self._is_closed:
            self._counts.repairs += 1
            first = ring.edge + 1
            commits, _ = await sources.log.page(self.view.part, first)
            if asyncio.get_running_loop().time() > began_at + _LONG_S and (
                await self._is_torn(sources, first)
            ):
                return
            contexts = await contexts_of(self.view, sources.contexts, commits)
            for commit in commits:
                # Live commits may have closed the gap meanwhile.
                if commit.sequence > ring.edge:
                    self._append(ring, commit, contexts[commit.execution])
                    await self._wait_for_sweep()
            if not commits and ring.edge < self._known_edge:
                # The replica that answered lags behind the one that republished.
                await asyncio.sleep(_RETRY_S)

    async def _is_torn(self, sources: TopicSources, first: int) -> bool:
        """End the streams if commits from a sequence on may be deleted; return whether they are.

        The clients reconnect, and each learns by its id whether it has missed events.
        """
        if self.view.part.execution:
            is_torn = await sources.log.newest(self.view.part) is None
        else:
            is_torn = await sources.horizons.of(self.view.part.tenant) >= first
        if is_torn:
            self.end("lagged")
        return is_torn

    async def _wait_for_sweep(self) -> None:
        """Wait until followers that keep up have been sent what the ring would soon evict."""
        while self._sweeper.is_overrun and not self._is_closed:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(_POLL_S)

    async def _create_ring(self, sources: TopicSources) -> Ring:
        dialect, tenant = self.view.dialect, self.view.part.tenant
        if dialect.snapshot_query is not None:
            loaded = await sources.snapshots.load(tenant, dialect.snapshot_query)
            ring = self._ring(loaded.snapshot.sequence, loaded.events * dialect.slots)
            self.state = dialect.begin(loaded.snapshot)
        elif self.view.part.execution:
            newest = await sources.log.newest(self.view.part)
            ring = await self._ring_with(newest, sources.contexts)
        else:
            end = await sources.snapshots.log_end(tenant)
            if end.commit is None:
                ring = self._ring(end.sequence, 0)
            else:
                ring = await self._ring_with(end.commit, sources.contexts)
        self.ring = ring
        self._account_state()
        for follower in self.followers:
            follower.on_ring_ready()
        return ring

    def _account_state(self) -> None:
        """Count the memory of the state; end the streams if it grows beyond the budget."""
        size = self.state.size if self.state else 0
        growth, self._state_bytes = size - self._state_bytes, size
        self._account.add(growth)
        if growth > 0 and (reason := self._account.refusal):
            self._counts.refused[reason] += len(self.followers)
            self.end(reason)

    async def _ring_with(self, newest: Commit | None, contexts: Contexts) -> Ring:
        ring = self._ring(newest.sequence - 1 if newest else 0, None)
        if newest:
            # Most clients that reconnect have this commit's id; with it here they need no read.
            known = await contexts_of(self.view, contexts, [newest])
            ring.append(self.view.encode(self.epoch, newest, known[newest.execution]))
        return ring

    def _ring(self, edge: int, events: int | None) -> Ring:
        return Ring(
            self.epoch,
            edge,
            max_events=self._bounds.events,
            max_bytes=self._bounds.bytes,
            account=self._account,
            index=None if events is None else max(events - 1, 0),
        )

    def _append(self, ring: Ring, commit: Logged, context: Context) -> bool:
        """Append a commit to the ring; return whether it is swept at once."""
        encoded = self.view.encode(self.epoch, commit, context, self.state)
        ring.append(encoded)
        self._account_state()
        return self._sweeper.note_append(ring, encoded, is_execution=bool(self.view.part.execution))
