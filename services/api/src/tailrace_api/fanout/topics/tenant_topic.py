"""A topic that shows some of a tenant's commits, fed by the tenant's tail."""

import asyncio
from collections.abc import Iterable
from typing import Final

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import State
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.ring import TenantRing
from tailrace_api.fanout.topics.tenant_tail import TenantTail, contexts_for, is_context_needed
from tailrace_api.fanout.topics.topic import Topic, TopicSources
from tailrace_api.fanout.views.view import Logged, View
from tailrace_shared.errors import JetStreamError, UnavailableError

_RETRY_S: Final = 0.25


class TenantTopic(Topic):
    """The live end of what a dialect shows of a tenant.

    Attributes:
        tail: the tenant's commits.
    """

    ring: TenantRing | None

    def __init__(
        self,
        view: View,
        runtime: StreamRuntime,
        bounds: RingBounds,
        account: MemoryAccount,
        tail: TenantTail,
        sources: TopicSources,
    ) -> None:
        super().__init__(view, runtime, bounds, account)
        self.tail = tail
        self._sources = sources

    @property
    def newest(self) -> Logged | None:
        """The tenant's newest commit up to the edge, or None."""
        return self.tail.newest

    @property
    def is_overrun(self) -> bool:
        """Whether sweeps must run before the ring evicts unsent commits."""
        return self._sweeper.is_overrun

    def take(self, commit: Logged, context: Context, stored_at: float) -> None:
        """Take the next commit that may concern the topic."""
        if self.ring is None or not self._concerns(commit, context):
            return
        encoded = self.view.encode(self.epoch, commit, context, self.state)
        self._account_state()
        if not encoded.indexes or self._is_closed:
            return
        self.ring.append(encoded)
        if self._sweeper.note_append(self.ring, encoded, is_execution=False):
            self._sweeper.unswept_times.append(stored_at)

    def _concerns(self, commit: Logged, context: Context) -> bool:
        return self.view.dialect.concerns(context, commit.payload)

    def close(self) -> None:
        """Release the memory; the topic takes no more commits."""
        super().close()
        self.tail.remove(self)

    def begin_at_edge(self) -> bool:
        """Begin at once if nothing must be read; return whether it has begun.

        The ring begins with the tenant's newest commit: most clients that reconnect have its id.
        """
        if not self.tail.ready.is_set() or self.view.dialect.snapshot_query is not None:
            return False
        if (newest := self.tail.newest) is None:
            self._begin_ring(self._new_ring())
            return True
        context = Context(newest.execution, newest.workflow)
        if is_context_needed(self.view, newest, context):
            known = self._sources.contexts.known(self.tail.tenant, newest.execution)
            if known is None:
                return False
            context = known
        ring = self._new_ring()
        is_shown = self._before([newest], ring.floor) and self._concerns(newest, context)
        shown = [self.view.encode(self.epoch, newest, context)] if is_shown else []
        ring.prepend([each for each in shown if each.indexes], newest.sequence)
        self._begin_ring(ring)
        return True

    async def run(self) -> None:
        """Begin, with a snapshot if the dialect has a state."""
        await self.tail.ready.wait()
        while self.ring is None and not self._is_closed:
            try:
                if self.view.dialect.snapshot_query is not None:
                    with self.tail.keeping():
                        await self._begin_with_snapshot()
                elif not self.begin_at_edge() and self.tail.newest is not None:
                    await contexts_for(self._sources, self.view, [self.tail.newest])
            except (UnavailableError, JetStreamError):
                await asyncio.sleep(_RETRY_S)

    def _begin_ring(self, ring: TenantRing, state: State | None = None) -> None:
        self.tail.add(self)
        self._begin(ring, state)

    def _new_ring(self) -> TenantRing:
        return TenantRing(
            self.epoch,
            self.tail,
            self.view.dialect,
            max_events=self._bounds.events,
            max_bytes=self._bounds.bytes,
            account=self._account,
        )

    async def _begin_with_snapshot(self) -> None:
        dialect, query = self.view.dialect, self.view.dialect.snapshot_query
        if query is None:
            return
        seen = self.tail.newest
        loaded = await self._sources.snapshots.load(self.view.part.tenant, query)
        sequence = loaded.snapshot.sequence
        if seen is not None and sequence < seen.sequence:
            raise UnavailableError("the leader of the log that answered lags behind")
        await self.tail.reached(sequence)
        if self._is_closed or self.tail.window.floor > sequence + 1:
            return  # the window does not reach back to the snapshot: take another one
        commits, contexts = self.tail.window.since(sequence + 1), dict[str, Context]()
        while not contexts.keys() >= {commit.execution for commit in commits}:
            contexts = await contexts_for(self._sources, self.view, commits)
            commits = self.tail.window.since(sequence + 1)
        if self.tail.window.floor > sequence + 1:
            return
        state = dialect.begin(loaded.snapshot)
        for commit in commits:
            context = contexts[commit.execution]
            if self._concerns(commit, context):
                self.view.encode(self.epoch, commit, context, state)
        self._begin_ring(self._new_ring(), state)

    async def reach_back(self, sequence: int) -> None:
        """Extend the ring back to a sequence, as far as the tenant's window can.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        ring = self.ring
        if ring is None or ring.floor <= sequence or self.view.dialect.is_cumulative:
            return
        if not await self.tail.reach_back(sequence):
            return
        with self.tail.keeping():
            commits, contexts = self._missed(ring), dict[str, Context]()
            # The ring may lose its oldest commits meanwhile.
            while not contexts.keys() >= {commit.execution for commit in commits}:
                contexts = await contexts_for(self._sources, self.view, commits)
                commits = self._missed(ring)
            if self._is_closed:
                return
            encoded = [
                self.view.encode(self.epoch, commit, contexts[commit.execution])
                for commit in commits
                if self._concerns(commit, contexts[commit.execution])
            ]
            ring.prepend([each for each in encoded if each.indexes], self.tail.window.floor)

    def _missed(self, ring: TenantRing) -> list[Logged]:
        """Return the commits in the tenant's window that are older than those in the ring."""
        floor, execution = self.tail.window.floor, self.view.part.execution
        return self._before(self.tail.window.since(floor, execution), ring.floor)

    def _before(self, commits: Iterable[Logged], floor: int) -> list[Logged]:
        execution = self.view.part.execution
        return [
            commit
            for commit in commits
            if commit.sequence < floor and execution in ("", commit.execution)
        ]
