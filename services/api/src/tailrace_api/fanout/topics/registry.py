"""Create topics on demand, share them, and close those without followers."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from tailrace_api.fanout.runtime.limits import StreamLimits
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.live_subscription import LiveSubscription
from tailrace_api.fanout.topics.memory_budget import MemoryAccount, MemoryBudget, TopicRefusedError
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.sweeper import Follower
from tailrace_api.fanout.topics.topic import Topic, TopicSources
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
        self._topics: dict[View, Topic] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._next_evict_at = runtime.now()

    def __len__(self) -> int:
        # Closed topics count until their task has ended.
        return len(self._tasks)

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

    def all(self) -> Iterable[Topic]:
        """Return the topics that have followers."""
        return self._topics.values()

    def refusal(self, view: View) -> str:
        """Return the memory limit that prevents a stream of a view, or an empty string."""
        # An execution's history is read before a topic is needed, if one is.
        if view.part.execution or view in self._topics:
            return ""
        return self._memory_refusal(view.part.tenant)

    def ring(self, view: View) -> Ring | None:
        """Return the ring of a view's topic, if there is one.

        It lets clients that resume a live topic skip the lookup of their id in the log.
        """
        topic = self._topics.get(view)
        return topic.ring if topic else None

    def join_at(self, view: View, sequence: int, follower: Follower) -> Topic | None:
        """Follow the topic of a view if its ring holds everything from a sequence on."""
        topic = self._topics.get(view)
        if topic is None or topic.ring is None or sequence < topic.ring.floor:
            return None
        return self.join(view, follower)

    def join(self, view: View, follower: Follower) -> Topic:
        """Follow the topic of a view, and create it if it does not exist.

        Raises:
            TopicRefusedError: it does not exist, and a memory limit has been reached.
        """
        topic = self._topics.get(view) or self._create(view)
        topic.followers.add(follower)
        return topic

    def leave(self, topic: Topic, follower: Follower) -> None:
        """Stop following a topic; it closes with its last follower."""
        topic.followers.discard(follower)
        if not topic.followers and self._topics.get(topic.view) is topic:
            del self._topics[topic.view]
            topic.close()

    def _create(self, view: View) -> Topic:
        if reason := self._memory_refusal(view.part.tenant):
            raise TopicRefusedError(reason)
        bounds = self._ring_bounds.share(view.dialect.ring_share, view.dialect.slots)
        account = MemoryAccount(self.budget, view.part.tenant)
        topic = Topic(view, self._runtime, bounds, account)
        self._topics[view] = topic
        subject = self._subjects.live_of(view.part)
        task = asyncio.create_task(topic.run(self._subscription, self._sources, subject))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._on_done(topic, done))
        return topic

    def _memory_refusal(self, tenant: str) -> str:
        reason = self.budget.refusal(tenant)
        if reason and (now := self._runtime.now()) >= self._next_evict_at:
            self._next_evict_at = now + _EVICT_INTERVAL_S
            # Rings without new commits would otherwise stay as full as they are.
            for topic in self._topics.values():
                if reason == "topics_full" or topic.view.part.tenant == tenant:
                    topic.evict_sent()
            reason = self.budget.refusal(tenant)
        return reason

    def _on_done(self, topic: Topic, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # A bug here must not leave clients with heartbeats and no events.
            _log.error("topic failed", part=topic.view.part, exc_info=error)
            if self._topics.get(topic.view) is topic:
                del self._topics[topic.view]
            topic.end("failed")
            topic.close()
