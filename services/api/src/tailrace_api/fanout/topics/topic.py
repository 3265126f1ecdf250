"""A topic: a part of the log in one dialect, as long as somebody follows it.

Live commits are encoded once into the topic's ring, in order and without a gap. What makes that
true is one task, the keeper. It subscribes, then asks the log for its newest commit, from which
the ring begins. A live commit before which nothing can be missing is appended at once; any other
only says that the log is further on, and the keeper reads up to there. So what was lost on the way
(Core NATS delivers at most once), what came too early, and what is of an execution that must be
known and is not, are one case, and live commits need no buffer of their own.

Of a dialect with a state the ring begins where a snapshot of the tenant was taken, and the state
takes every commit that the ring takes. So a snapshot of the state is one of the ring's edge.

What is in the ring is written to the followers in sweeps. A sweep takes every follower as far as
the ring goes when its turn comes: commits that arrive during a sweep are joined to those that are
still to be written, so the more there is to do, the fewer writes it takes. What is not urgent
waits for what is, for a moment.
"""

import asyncio
import time
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple, Protocol

import structlog

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import AwaitsWorkflows, State, without_id
from tailrace_api.fanout.runtime.cooperative_scheduler import CooperativeScheduler
from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.tenants.snapshots import Snapshots
from tailrace_api.fanout.topics.live_subscription import LiveCommit, LiveSubscription
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.views.view import Logged, View
from tailrace_api.sse.chunk import chunk
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.stores.execution_log import Commit, ExecutionLog

_PAUSE: Final = 0.25
# Sweeps that are shorter than this, in seconds, follow one another at once; after a longer one
# there is a pause, but never a long one.
_SHORT: Final = 0.001
_LONGEST_REST: Final = 0.01
# So much of a ring is not left unswept if that can be helped.
_MUCH: Final = 0.5
# What a topic takes of memory beside its ring and its state.
_OVERHEAD: Final = 12 * 1024

_log = structlog.get_logger("tailrace.api.fanout")


class Follower(Protocol):
    """Whoever takes from a topic's ring."""

    def ready(self) -> None:
        """Learn that the topic has a ring."""

    def serve(self) -> bool:
        """Take something from the ring; returns whether there is more that it takes now."""

    def end(self, reason: str) -> None:
        """Follow no more."""


class RingBounds(NamedTuple):
    """How much a ring may hold; of events that have several slots, these are counted."""

    events: int
    bytes: int

    def share(self, part: float, slots: int) -> "RingBounds":
        """Return the bounds of a ring of which only a part is needed, of events with slots."""
        return RingBounds(max(int(self.events * part), 1) * slots, int(self.bytes * part))


class Knowledge(NamedTuple):
    """What topics are made from.

    Attributes:
        log: what is told.
        contexts: what is known of executions.
        snapshots: how tenants stand.
    """

    log: ExecutionLog
    contexts: Contexts
    snapshots: Snapshots


class Topic:
    """The live end of a part of the log.

    Attributes:
        view: what it shows.
        epoch: the epoch of the log.
        followers: whom it serves.
        ring: None until the topic knows where the log ends.
        state: what the dialect knows at the ring's edge, if it has a state.
    """

    def __init__(
        self,
        view: View,
        epoch: str,
        bounds: RingBounds,
        account: MemoryAccount,
        turns: CooperativeScheduler,
        counts: Counts,
        laziness: float = 0.0,
    ) -> None:
        self.view = view
        self.epoch = epoch
        self.followers: set[Follower] = set()
        self.ring: Ring | None = None
        self.state: State | None = None
        self._opening: tuple[int, int, bytes] | None = None
        self._laziness = laziness
        # When the ring is swept at the latest, with what is not urgent.
        self._lazy_sweep: asyncio.TimerHandle | None = None
        # How much the ring has taken that no sweep has gone over, as a part of what it may hold.
        self._unswept = 0.0
        self._contexts: Contexts | None = None
        self._bounds = bounds
        self._account = account
        self._state_size = 0
        account.take(_OVERHEAD)
        self._turns = turns
        self._counts = counts
        # The highest sequence that the log is known to reach.
        self._known_edge = 0
        self._behind = asyncio.Event()
        self._closed = False
        # Whether a sweep is under way, and whether the ring has grown since it began.
        self._is_sweeping = False
        self._has_grown = False
        self._fresh: list[float] = []

    def receive(self, commit: LiveCommit) -> bool:
        """Take a live commit; returns whether sweeps need time, or the ring leaves them behind."""
        ring = self.ring
        if ring is None:
            self.reach(commit.sequence)
        elif commit.sequence > ring.edge:
            context = self._known(commit)
            if context is not None and self._is_next(commit, ring.edge):
                if self._append(ring, commit, context):
                    self._fresh.append(commit.stored_at)
            else:
                self.reach(commit.sequence)
        return self._leaves_much

    def _known(self, commit: LiveCommit) -> Context | None:
        if (context := self.view.context(commit)) is not None or self._contexts is None:
            return context
        tenant = self.view.part.tenant
        learned = self._contexts.learn(tenant, commit.execution, commit.payload)
        return learned or self._contexts.known(tenant, commit.execution)

    def _is_next(self, commit: LiveCommit, edge: int) -> bool:
        if self.view.part.execution:
            return commit.previous <= edge
        # The predecessor is that of the commit's own execution. What other executions of the
        # tenant may have had in between only the log can tell, unless there is no between.
        return commit.sequence == edge + 1

    def reach(self, sequence: int) -> None:
        """Learn that the log reaches at least to ``sequence``."""
        if sequence > self._known_edge:
            self._known_edge = sequence
            self._behind.set()

    def close(self) -> None:
        """Make the keeper give everything back and end."""
        self._closed = True
        self._account.close()
        self._behind.set()

    def shed(self) -> None:
        """Keep nothing of the ring that has been written, unless there is more to write."""
        if self.ring and not self._is_sweeping and self._lazy_sweep is None:
            self.ring.shed(self.ring.edge)

    def end(self, reason: str) -> None:
        """End the streams of all followers."""
        for follower in tuple(self.followers):
            follower.end(reason)

    def opening(self, milliseconds: int) -> bytes:
        """Return what a stream that begins at the ring's edge begins with."""
        ring, second = self.ring, milliseconds // 1000
        if ring is None:
            raise RuntimeError("a topic without a ring has no edge")
        if self._opening is None or self._opening[:2] != (ring.edge, second):
            blocks = self.state.opening(milliseconds) if self.state else ()
            wire = chunk(without_id(blocks))
            self._opening = (ring.edge, second, wire)
        return self._opening[2]

    @property
    def missing(self) -> frozenset[str]:
        """The workflows that streams that open are told there are not."""
        return self.state.missing if isinstance(self.state, AwaitsWorkflows) else frozenset()

    def found(self, workflows: Collection[str]) -> None:
        """Learn that there are some of them by now."""
        if workflows and isinstance(self.state, AwaitsWorkflows):
            self.state.found(workflows)
            self._opening = None

    async def keep(self, source: LiveSubscription, knowledge: Knowledge, subject: str) -> None:
        """Keep the ring complete until the topic is closed."""
        self._contexts = knowledge.contexts
        # Not to be cancelled while it subscribes: a subscription that nobody holds is a leak.
        if not await self._listen(source, subject):
            return
        try:
            while not self._closed:
                self._behind.clear()
                try:
                    await self._catch_up(knowledge)
                except (UnavailableError, JetStreamError):
                    await asyncio.sleep(_PAUSE)
                    continue
                await self._behind.wait()
        finally:
            if self._lazy_sweep is not None:
                self._lazy_sweep.cancel()
            await source.leave(subject, self.receive)

    async def _listen(self, source: LiveSubscription, subject: str) -> bool:
        while not self._closed:
            try:
                await source.listen(subject, self.receive)
            except UnavailableError:
                await asyncio.sleep(_PAUSE)
            else:
                return True
        return False

    async def _catch_up(self, knowledge: Knowledge) -> None:
        ring = self.ring or await self._begin(knowledge)
        while ring.edge < self._known_edge and not self._closed:
            self._counts.repairs += 1
            commits, _ = await knowledge.log.page(self.view.part, ring.edge + 1)
            contexts = await contexts_of(self.view, knowledge.contexts, commits)
            for commit in commits:
                # Meanwhile, live commits may have closed the gap themselves.
                if commit.sequence > ring.edge:
                    self._append(ring, commit, contexts[commit.execution])
                    await self._swept()
            if not commits and ring.edge < self._known_edge:
                # A replica of the log that lags behind the one that republished.
                await asyncio.sleep(_PAUSE)

    async def _swept(self) -> None:
        """Wait until those who keep up have what would soon be beyond the ring's bounds."""
        while self._leaves_much and not self._closed:  # noqa: ASYNC110 - rare, and soon over
            await asyncio.sleep(_SHORT)

    @property
    def _leaves_much(self) -> bool:
        return self._is_sweeping and self._unswept > _MUCH

    async def _begin(self, knowledge: Knowledge) -> Ring:
        dialect, tenant = self.view.dialect, self.view.part.tenant
        if dialect.wants is not None:
            loaded = await knowledge.snapshots.load(tenant, dialect.wants)
            ring = self._ring(loaded.snapshot.sequence, loaded.events * dialect.slots)
            self.state = dialect.begin(loaded.snapshot)
        elif self.view.part.execution:
            newest = await knowledge.log.newest(self.view.part)
            ring = await self._ring_with(newest, knowledge.contexts)
        else:
            place = await knowledge.snapshots.place(tenant)
            if place.commit is None:
                ring = self._ring(place.sequence, 0)
            else:
                ring = await self._ring_with(place.commit, knowledge.contexts)
        self.ring = ring
        self._weigh_state()
        for follower in self.followers:
            follower.ready()
        return ring

    def _weigh_state(self) -> None:
        """Count what the state takes; where there is no room for more, the streams end."""
        size = self.state.size if self.state else 0
        grown, self._state_size = size - self._state_size, size
        self._account.take(grown)
        if grown > 0 and (reason := self._account.refusal):
            self._counts.refused[reason] += len(self.followers)
            self.end(reason)

    async def _ring_with(self, newest: Commit | None, contexts: Contexts) -> Ring:
        ring = self._ring(newest.sequence - 1 if newest else 0, None)
        if newest:
            # Clients that come back know this one; with it here they need no read.
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
        """Add a commit to the ring; returns whether it is written at once."""
        encoded = self.view.encode(self.epoch, commit, context, self.state)
        ring.append(encoded)
        self._weigh_state()
        self._unswept += max(
            len(encoded.ends) / self._bounds.events, len(encoded.chunk) / self._bounds.bytes
        )
        is_shown = bool(encoded.chunk) or bool(self.view.part.execution)
        # What there is no room for is not kept waiting either.
        is_urgent = encoded.is_urgent or bool(self._account.refusal)
        if (is_shown and is_urgent) or self._unswept > _MUCH:
            self._sweep_soon()
            return True
        if self._lazy_sweep is None:
            # What is not urgent waits for what is, or until it is enough or late.
            loop = asyncio.get_running_loop()
            self._lazy_sweep = loop.call_later(self._laziness, self._sweep_soon)
        return False

    def _sweep_soon(self) -> None:
        self._has_grown = True
        if self._lazy_sweep is not None:
            self._lazy_sweep.cancel()
            self._lazy_sweep = None
        if not self._is_sweeping:
            self._is_sweeping = True
            self._turns.add(self._sweep())

    def _sweep(self) -> Iterator[None]:
        try:
            while self._has_grown:
                self._has_grown = False
                fresh, self._fresh = self._fresh, []
                covered, began = self._unswept, time.perf_counter()
                edge = self.ring.edge if self.ring else 0
                yield from self._serve_all()
                self._unswept -= covered
                if self.ring and self._account.refusal:
                    # What came meanwhile may be for a later sweep: some have been passed by then.
                    self.ring.shed(edge)
                self._note_lag(fresh)
                took = time.perf_counter() - began
                if self._has_grown and took > _SHORT:
                    self._rest(took)
                    return
            self._is_sweeping = False
        except Exception:
            # A bug of ours must not leave clients with heartbeats and nothing else.
            self.end("failed")
            raise

    def _rest(self, took: float) -> None:
        # Commits come faster than sweeps go. Sweeping without a pause would be a system call for
        # each client and each few of them; a pause as long as a sweep halves that.
        loop = asyncio.get_running_loop()
        loop.call_later(min(took, _LONGEST_REST), lambda: self._turns.add(self._sweep()))

    def _serve_all(self) -> Iterator[None]:
        behind = list(self.followers)
        while behind:
            # Whoever gets more than a batch waits until the others have had theirs.
            still_behind = []
            for follower in behind:
                if follower.serve():
                    still_behind.append(follower)
                yield
            behind = still_behind

    def _note_lag(self, fresh: list[float]) -> None:
        now = time.time()
        for stored_at in fresh:
            # Clocks of two machines: what seems to be written before it was stored was not late.
            self._counts.lag.observe(max(now - stored_at, 0.0))
