"""The topic of one execution, with a subscription of its own.

One task keeps its ring complete. It subscribes, then reads the newest commit from the log, where
the ring begins. A live commit is appended at once if its predecessor is in the ring. Any other live
commit only tells that the log is further on, and the task reads the log up to there. So three cases
are one: messages lost on the way (core NATS delivers at most once), messages out of order, and
commits of executions whose context is not known yet. Live commits need no buffer of their own.
"""

import asyncio
from typing import Final

from tailrace_api.dialects.context import Context
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.topics.live_subscription import LiveCommit, LiveSubscription
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.topic import Topic, TopicSources
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import JetStreamError, UnavailableError

_RETRY_S: Final = 0.25
_POLL_S: Final = 0.001
# A topic that catches up for longer checks whether what it waits for has been deleted.
_LONG_S: Final = 1.0
# Memory of the task and the subscription.
_OVERHEAD_BYTES: Final = 6 * 1024


class ExecutionTopic(Topic):
    """The live end of the log of one execution."""

    def __init__(
        self, view: View, runtime: StreamRuntime, bounds: RingBounds, account: MemoryAccount
    ) -> None:
        super().__init__(view, runtime, bounds, account)
        account.add(_OVERHEAD_BYTES)
        self._contexts: Contexts | None = None
        # The highest sequence that the log is known to reach.
        self._known_edge = 0
        self._behind = asyncio.Event()

    def receive(self, commit: LiveCommit) -> bool:
        """Take a live commit; return whether sweeps must run before the ring evicts unsent ones."""
        ring = self.ring
        if ring is None:
            self.note_edge(commit.sequence)
        elif commit.sequence > ring.newest:
            context = self._context_of(commit)
            if context is not None and commit.previous <= ring.newest:
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

    @property
    def known_edge(self) -> int:
        """The highest sequence that the part of the log is known to reach."""
        return max(self._known_edge, super().known_edge)

    def note_edge(self, sequence: int) -> None:
        """Note that the log reaches at least to ``sequence``."""
        if sequence > self._known_edge:
            self._known_edge = sequence
            self._behind.set()

    def close(self) -> None:
        """Release the memory and stop the topic's task."""
        super().close()
        self._behind.set()

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
        while ring.newest < self._known_edge and not self._is_closed:
            self._counts.repairs += 1
            commits, _ = await sources.log.page(self.view.part, ring.newest + 1)
            if asyncio.get_running_loop().time() > began_at + _LONG_S and (
                await self._is_torn(sources)
            ):
                return
            contexts = await contexts_of(self.view, sources.contexts, commits)
            for commit in commits:
                # Live commits may have closed the gap meanwhile.
                if commit.sequence > ring.newest:
                    self._append(ring, commit, contexts[commit.execution])
                    await self._wait_for_sweep()
            if not commits and ring.newest < self._known_edge:
                # The replica that answered lags behind the one that republished.
                await asyncio.sleep(_RETRY_S)

    async def _is_torn(self, sources: TopicSources) -> bool:
        """End the streams if the execution is deleted; return whether it is.

        The clients reconnect, and each learns by its id whether it has missed events.
        """
        is_torn = await sources.log.newest(self.view.part) is None
        if is_torn:
            self.end("lagged")
        return is_torn

    async def _wait_for_sweep(self) -> None:
        """Wait until followers that keep up have been sent what the ring would soon evict."""
        while self._sweeper.is_overrun and not self._is_closed:  # noqa: ASYNC110 - rare and short
            await asyncio.sleep(_POLL_S)

    async def _create_ring(self, sources: TopicSources) -> Ring:
        newest = await sources.log.newest(self.view.part)
        ring = self._ring(newest.sequence - 1 if newest else 0, None if newest else 0)
        if newest:
            # Most clients that reconnect have this commit's id; with it here they need no read.
            known = await contexts_of(self.view, sources.contexts, [newest])
            ring.append(self.view.encode(self.epoch, newest, known[newest.execution]))
        self._begin(ring)
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
