"""Create topics on demand, share them, and close those without followers."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Final

import structlog

from tailrace_api.dialects.multiplex import Multiplex
from tailrace_api.fanout.runtime.limits import StreamLimits
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.execution_topic import ExecutionTopic
from tailrace_api.fanout.topics.live_log import LiveLog
from tailrace_api.fanout.topics.live_subscription import LiveSubscription
from tailrace_api.fanout.topics.memory_budget import MemoryAccount, MemoryBudget, TopicRefusedError
from tailrace_api.fanout.topics.merged_ring import MergedRing
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.sweeper import Follower
from tailrace_api.fanout.topics.tenant_tail import TenantTail
from tailrace_api.fanout.topics.tenant_topic import TenantTopic
from tailrace_api.fanout.topics.topic import Topic, TopicSources
from tailrace_api.fanout.topics.topic_set import TopicSet
from tailrace_api.fanout.views.view import View
from tailrace_shared.subjects import Subjects

# Minimum interval between evictions, because each one visits all topics.
_EVICT_INTERVAL_S: Final = 1.0

_log = structlog.get_logger("tailrace.api.fanout")


class TopicRegistry:
    """The topics of this process, by view."""

    def __init__(
        self,
        runtime: StreamRuntime,
        sources: TopicSources,
        subscription: LiveSubscription,
        subjects: Subjects,
        limits: StreamLimits,
    ) -> None:
        self.budget = MemoryBudget(limits.topics, limits.tenant_topics)
        self._runtime = runtime
        self._sources = sources
        self._subscription = subscription
        self._subjects = subjects
        self._ring_bounds = limits.ring
        self._topics: dict[View, Topic | TopicSet] = {}
        # Those whose task has not ended yet, though they are closed.
        self._closing = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._live: LiveLog | None = None
        self._tails: dict[str, TenantTail] = {}
        self._next_evict_at = runtime.now()

    def __len__(self) -> int:
        return len(self._topics) + self._closing

    @property
    def subscriptions(self) -> int:
        return len(self._subscription)

    @property
    def newest_live(self) -> int:
        """The highest sequence of all live commits."""
        return self._subscription.newest_seen

    @newest_live.setter
    def newest_live(self, sequence: int) -> None:
        self._subscription.newest_seen = sequence

    @property
    def is_connected(self) -> bool:
        return self._subscription.is_connected

    def all(self) -> Iterable[Topic | TopicSet]:
        """Return the topics that have followers."""
        return self._topics.values()

    def executions(self) -> list[ExecutionTopic]:
        """Return the topics that have a subscription of their own."""
        return [topic for topic in self._topics.values() if isinstance(topic, ExecutionTopic)]

    def note_edge(self, sequence: int) -> None:
        """Note that the log of all tenants reaches at least to ``sequence``."""
        if self._live is not None:
            self._live.note_edge(sequence)

    def lower_edge(self, sequence: int) -> None:
        """Go back to a sequence, because the log has lost what is above it."""
        for tail in tuple(self._tails.values()):
            if tail.newest is not None and tail.newest.sequence > sequence:
                tail.end_all("restored")
        if self._live is not None:
            self._live.lower_edge(sequence)

    def refusal(self, view: View) -> str:
        """Return the memory limit that prevents a stream of a view, or an empty string."""
        # An execution's history is read before a topic is needed, if one is.
        if view.part.execution or view in self._topics:
            return ""
        return self._memory_refusal(view.part.tenant)

    def ring(self, view: View) -> Ring | MergedRing | None:
        """Return the ring of a view's topic, if there is one.

        It lets clients that resume a live topic skip the lookup of their id in the log.
        """
        topic = self._topics.get(view)
        return topic.ring if topic else None

    def join_at(self, view: View, sequence: int, follower: Follower) -> Topic | TopicSet | None:
        """Follow the topic of a view if its ring holds everything from a sequence on."""
        topic = self._topics.get(view)
        if topic is None or topic.ring is None or sequence < topic.ring.floor:
            return None
        return self.join(view, follower)

    def join(self, view: View, follower: Follower) -> Topic | TopicSet:
        """Follow the topic of a view, and create it if it does not exist.

        Raises:
            TopicRefusedError: it does not exist, and a memory limit has been reached.
        """
        topic = self._topics.get(view) or self._create(view)
        topic.followers.add(follower)
        return topic

    def leave(self, topic: Topic | TopicSet, follower: Follower) -> None:
        """Stop following a topic; it closes with its last follower."""
        topic.followers.discard(follower)
        if not topic.followers and self._topics.get(topic.view) is topic:
            self._close(topic)

    def _close(self, topic: Topic | TopicSet) -> None:
        del self._topics[topic.view]
        topic.close()
        if isinstance(topic, TopicSet):
            for member in topic.members:
                self.leave(member, topic)
        elif isinstance(topic, TenantTopic):
            self._release(topic.tail)

    def _create(self, view: View) -> Topic | TopicSet:
        tenant = view.part.tenant
        if reason := self._memory_refusal(tenant):
            raise TopicRefusedError(reason)
        account = MemoryAccount(self.budget, tenant)
        if isinstance(view.dialect, Multiplex):
            return self._create_set(view, account)
        bounds = self._ring_bounds.share(view.dialect.ring_share)
        topic: Topic
        if view.part.execution and not view.dialect.is_endless:
            topic = execution = ExecutionTopic(view, self._runtime, bounds, account)
            self._topics[view] = topic
            subject = self._subjects.live_of(view.part)
            self._start(topic, execution.run(self._subscription, self._sources, subject))
        else:
            tail = self._tail(tenant)
            tail.users += 1
            topic = TenantTopic(view, self._runtime, bounds, account, tail, self._sources)
            self._topics[view] = topic
            if not topic.begin_at_edge():
                self._start(topic, topic.run())
        return topic

    def _create_set(self, view: View, account: MemoryAccount) -> TopicSet:
        topic = TopicSet(view, self._runtime.epoch, account)
        members: list[TenantTopic] = []
        try:
            for each in TopicSet.views(view):
                member = self.join(each, topic)
                if isinstance(member, TenantTopic):
                    members.append(member)
        except TopicRefusedError:
            account.close()
            for member in members:
                self.leave(member, topic)
            raise
        self._topics[view] = topic
        topic.begin(members)
        return topic

    def _tail(self, tenant: str) -> TenantTail:
        tail = self._tails.get(tenant)
        if tail is None:
            if self._live is None:
                self._live = LiveLog(self._runtime, self._sources)
                subject = self._subjects.live_logs()
                self._run(self._live.run(self._subscription, subject))
            account = MemoryAccount(self.budget, tenant)
            tail = TenantTail(tenant, self._live, self._sources, self._runtime, account)
            self._tails[tenant] = tail
            self._live.add(tail)
            self._run(tail.run())
        return tail

    def _release(self, tail: TenantTail) -> None:
        tail.users -= 1
        if tail.users:
            return
        del self._tails[tail.tenant]
        tail.close()
        if self._live is not None:
            self._live.remove(tail)
            if not self._live:
                self._live.close()
                self._live = None

    def _memory_refusal(self, tenant: str) -> str:
        reason = self.budget.refusal(tenant)
        if reason and (now := self._runtime.now()) >= self._next_evict_at:
            self._next_evict_at = now + _EVICT_INTERVAL_S
            # Rings without new commits would otherwise stay as full as they are.
            for topic in self._topics.values():
                if reason == "topics_full" or topic.view.part.tenant == tenant:
                    topic.evict_sent()
            for tail in self._tails.values():
                tail.trim()
            reason = self.budget.refusal(tenant)
        return reason

    def _run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_ended)
        return task

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug here must not leave clients with heartbeats and no events.
            _log.error("live log failed", exc_info=error)
            for tail in tuple(self._tails.values()):
                tail.end_all("failed")

    def _start(self, topic: Topic, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._on_done(topic, done))

    def _on_done(self, topic: Topic, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug here must not leave clients with heartbeats and no events.
            _log.error("topic failed", part=topic.view.part, exc_info=error)
            topic.end("failed")
            if self._topics.get(topic.view) is topic:
                self._close(topic)
