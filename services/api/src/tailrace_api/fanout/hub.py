"""The hub: all topics and all connections of this process.

Topics live as long as they have followers. Whenever the hub has reason to doubt that live commits
came through (NATS reconnected, or dropped messages because this process was slow), and now and
then without a reason, it asks the log how far each topic has come, and tells the topics.

One clock serves all connections: it turns the timer wheel, and what is due is done in turns.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, NamedTuple

import structlog

from tailrace_api.fanout.clients.client_writer import ClientWriter
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.clients.drain import drain
from tailrace_api.fanout.clients.slow_client_buffer import SlowClientBuffer
from tailrace_api.fanout.clients.stream_quota import StreamQuota
from tailrace_api.fanout.history.backfill import recounted
from tailrace_api.fanout.history.replay import Replay
from tailrace_api.fanout.history.replay_cumulative import missed
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.runtime.cooperative_scheduler import CooperativeScheduler
from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.runtime.wheel import TimerWheel
from tailrace_api.fanout.topics.live_subscription import LiveSubscription
from tailrace_api.fanout.topics.memory_budget import MemoryAccount, MemoryBudget, TopicRefusedError
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.topic import Knowledge, RingBounds, Topic
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.subjects import Subjects

_PAUSE: Final = 0.25
_TICK: Final = 0.05
_SLOTS: Final = 1024
# How far the age at which a stream ends is spread, so that those that began together do not end so.
_AGE_SPREAD: Final = 0.25
# Of the time for draining: in which streams are told their end, and in which they have taken it.
_PACED_SHARE: Final = 0.6
_NEVER: Final = float("inf")
# How often room is made, at the most: all topics are gone over for it.
_BETWEEN_SHEDS: Final = 1.0

_log = structlog.get_logger("tailrace.api.fanout")


class StreamTimes(NamedTuple):
    """How streams keep time, in seconds.

    Attributes:
        heartbeat: silence after which a stream carries a heartbeat.
        retry: the middle of the reconnect delays that clients are told.
        stall: how long a client may take nothing before it is cut.
        age: how old a stream becomes, in the middle; 0: it is not ended for its age.
        laziness: how long what is not urgent may wait.
    """

    heartbeat: float
    retry: float
    stall: float
    age: float
    laziness: float = 0.0


class StreamLimits(NamedTuple):
    """How much streams may take of this process.

    Attributes:
        streams: how many there may be.
        tenant_streams: how many of them may be one tenant's.
        reads: how many reads of history may be waited for before new streams are refused.
        backlog: how many bytes slow clients may leave lying.
        ring: how much each topic keeps.
        topics: how many bytes all topics may keep.
        tenant_topics: how many of them may be one tenant's.
    """

    streams: int
    tenant_streams: int
    reads: int
    backlog: int
    ring: RingBounds
    topics: int
    tenant_topics: int


class Hub:
    """Topics by what they show, and the connections that follow them.

    Attributes:
        log: what is streamed.
        epoch: the epoch of the log.
        is_draining: whether streams are being ended for good.
        times: how streams keep time.
        limits: how much they may take.
        counts: what happened.
        backlog: what slow clients have yet to take.
        budget: what topics keep.
        replay: reads history.
        turns: does what is long in small steps.
        wheel: the deadlines of all connections.
        now: the time that the wheel goes by.
        wall: the time of day, in seconds since the epoch.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        source: LiveSubscription,
        subjects: Subjects,
        epoch: str,
        times: StreamTimes,
        limits: StreamLimits,
    ) -> None:
        self.epoch = epoch
        self.is_draining = False
        self.times = times
        self.limits = limits
        self.counts = Counts()
        self.backlog = SlowClientBuffer(limits.backlog)
        self.budget = MemoryBudget(limits.topics, limits.tenant_topics)
        self.replay = Replay(knowledge.log, knowledge.contexts, self.counts, limits.reads)
        self.turns = CooperativeScheduler()
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.wall: Callable[[], float] = time.time
        self.wheel: TimerWheel[ClientConnection] = TimerWheel(self.now(), tick=_TICK, slots=_SLOTS)
        self.log = knowledge.log
        self._knowledge = knowledge
        self._source = source
        self._subjects = subjects
        self._admission = StreamQuota(limits.streams, limits.tenant_streams)
        self._topics: dict[View, Topic] = {}
        self._sheds_at = self.now()
        self._keepers: set[asyncio.Task[None]] = set()
        self._connections: set[ClientConnection] = set()
        self._doubted = asyncio.Event()
        self._empty = asyncio.Event()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many connections, topics and live subscriptions there are."""
        return len(self._connections), len(self._keepers), len(self._source)

    def retry_milliseconds(self) -> int:
        """Return a reconnect delay for one client.

        Clients that lost their replica together come back over a while, not together.
        """
        return int(self.times.retry * random.uniform(500, 1500))  # noqa: S311 - spreads, hides nothing

    def end_of_age(self) -> float:
        """Return when a stream that begins now is old enough to begin anew, perhaps elsewhere.

        A replica that was added gets its share of the streams when the others let go of theirs.
        """
        spread = random.uniform(1 - _AGE_SPREAD, 1 + _AGE_SPREAD)  # noqa: S311 - spreads, hides nothing
        return self.now() + self.times.age * spread if self.times.age else _NEVER

    def refusal(self, view: View) -> str:
        """Return why no stream of a view can be opened here and now; empty if one can."""
        tenant = view.part.tenant
        if self.is_draining:
            return "draining"
        if not self._source.is_connected:
            return "disconnected"
        if reason := self._admission.refusal(tenant):
            return reason
        # An execution's history is read before a topic is needed, if one is.
        is_at_hand = bool(view.part.execution) or view in self._topics
        return "" if is_at_hand else self._no_room(tenant)

    def streams_of(self, tenant: str) -> int:
        """Return how many streams a tenant has here."""
        return self._admission.of_tenant(tenant)

    def refuse(self, reason: str) -> int:
        """Count a stream that is told to come back later; returns after how many milliseconds."""
        self.counts.refused[reason] += 1
        return self.retry_milliseconds()

    def connect(
        self, view: View, start: Start, outlet: ClientWriter, until: float | None = None
    ) -> ClientConnection:
        """Open a stream, for ever or until a time of day at which its client's token expires."""
        connection = ClientConnection(self, view, start, outlet, until)
        self._admission.enter(view.part.tenant)
        self._connections.add(connection)
        self.counts.opened += 1
        self.counts.resets += bool(start.reset)
        return connection

    def forget(self, connection: ClientConnection) -> None:
        """Forget a connection that has closed."""
        self.wheel.cancel(connection)
        self._connections.discard(connection)
        self._admission.leave(connection.view.part.tenant)
        if not self._connections:
            self._empty.set()

    def ring(self, view: View) -> Ring | None:
        """Return the ring of what shows a view, if there is one.

        The many that come back to a topic that is alive need not ask the log who they are.
        """
        topic = self._topics.get(view)
        return topic.ring if topic else None

    def join_at(self, view: View, sequence: int, connection: ClientConnection) -> Topic | None:
        """Have a topic that has everything from a sequence on serve a connection, if one has."""
        topic = self._topics.get(view)
        if topic is None or topic.ring is None or sequence < topic.ring.floor:
            return None
        return self.join(view, connection)

    def join(self, view: View, connection: ClientConnection) -> Topic:
        """Have the topic that shows ``view`` serve a connection, and return it.

        Raises:
            TopicRefusedError: there is none, and no room for one.
        """
        topic = self._topics.get(view) or self._begin(view)
        topic.followers.add(connection)
        return topic

    def _begin(self, view: View) -> Topic:
        if reason := self._no_room(view.part.tenant):
            raise TopicRefusedError(reason)
        bounds = self.limits.ring.share(view.dialect.ring_share, view.dialect.slots)
        account = MemoryAccount(self.budget, view.part.tenant)
        laziness = self.times.laziness
        topic = Topic(view, self.epoch, bounds, account, self.turns, self.counts, laziness)
        self._topics[view] = topic
        subject = self._subjects.live_of(view.part)
        keeper = asyncio.create_task(topic.keep(self._source, self._knowledge, subject))
        self._keepers.add(keeper)
        keeper.add_done_callback(lambda done: self._kept(topic, done))
        return topic

    def _no_room(self, tenant: str) -> str:
        """Return which limit leaves a tenant no room for a topic; empty if there is some."""
        reason = self.budget.refusal(tenant)
        if reason and (now := self.now()) >= self._sheds_at:
            self._sheds_at = now + _BETWEEN_SHEDS
            # Rings of which nothing is written now would stay as full as they are.
            for topic in self._topics.values():
                if reason == "topics_full" or topic.view.part.tenant == tenant:
                    topic.shed()
            reason = self.budget.refusal(tenant)
        return reason

    async def look_again(self, topic: Topic) -> None:
        """Have a topic tell of workflows that have come to exist since it began.

        Raises:
            UnavailableError: NATS did not answer.
        """
        missing, tenant = topic.missing, topic.view.part.tenant
        if not missing:
            return

        async def read() -> frozenset[str]:
            return await self._knowledge.snapshots.existing(tenant, missing)

        key = ("existing", tenant, missing)
        topic.found(
            await self.replay.shared(key, read, lambda found: found != missing, is_new=False)
        )

    async def missed(self, topic: Topic, sequence: int, index: int) -> Batch | None:
        """Return what a topic's state has taken from a place on; None if that is too much.

        Raises:
            UnavailableError: NATS did not answer, or has too many answers to give.
        """

        async def read() -> Batch | None:
            return await missed(self.log, self._knowledge.contexts, topic, sequence, index)

        key = ("missed", topic.view, sequence, index)
        return await self.replay.shared(key, read, lambda batch: batch is None, is_new=False)

    def recounted(self, view: View, execution: str, edge: int) -> AsyncIterator[bytes]:
        """Yield what is told of an execution's commits up to a sequence, in whole blocks.

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
        """
        return recounted(self.log, self.replay, view, execution, edge)

    def _kept(self, topic: Topic, keeper: asyncio.Task[None]) -> None:
        self._keepers.discard(keeper)
        if not keeper.cancelled() and (error := keeper.exception()):
            # A bug of ours must not leave clients with heartbeats and nothing else.
            _log.error("topic failed", part=topic.view.part, exc_info=error)
            if self._topics.get(topic.view) is topic:
                del self._topics[topic.view]
            topic.end("failed")
            topic.close()

    def leave(self, topic: Topic, connection: ClientConnection) -> None:
        """Take a connection out of a topic; the last one to leave closes it."""
        topic.followers.discard(connection)
        if not topic.followers and self._topics.get(topic.view) is topic:
            del self._topics[topic.view]
            topic.close()

    async def tick(self) -> None:
        """Turn the timer wheel, for ever."""
        while True:
            expected = self.now() + _TICK
            await asyncio.sleep(_TICK)
            now = self.now()
            self.counts.stall.observe(max(now - expected, 0.0))
            if due := self.wheel.advance(now):
                self.turns.add(_check(due))

    def request_reconcile(self) -> bool:
        """Have every topic compared with the log soon; returns whether that is news."""
        is_news = not self._doubted.is_set()
        self._doubted.set()
        return is_news

    async def watch(self) -> None:
        """Compare topics with the log, whenever there is doubt and every heartbeat, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.times.heartbeat):
                    await self._doubted.wait()
            self._doubted.clear()
            try:
                await self._reconcile()
            except (UnavailableError, JetStreamError) as error:
                _log.warning("cannot compare streams with the log", error=str(error))
                await asyncio.sleep(_PAUSE)
                self._doubted.set()

    async def _reconcile(self) -> None:
        topics = list(self._topics.values())
        # Before the log is asked, or what is committed meanwhile would seem to be ahead of it.
        shown = {topic: topic.ring.edge for topic in topics if topic.ring is not None}
        edge = await self.log.edge()
        if edge.epoch != self.epoch:
            _log.warning("the log was recreated", epoch=edge.epoch, before=self.epoch)
            self.epoch = edge.epoch
            # Ids and rings belong to the epoch. Clients come back and are told in the stream.
            for connection in tuple(self._connections):
                connection.end("recreated")
            return
        last = await self.log.last_sequences(topic.view.part for topic in topics)
        for topic in topics:
            if shown.get(topic, 0) > edge.last_sequence:
                # NATS lost what it had not written to disk; we have shown what never was.
                _log.error("the log went back", part=topic.view.part)
                topic.end("recreated")
            topic.reach(last.get(topic.view.part, 0))

    async def drain(self, seconds: float) -> None:
        """End all streams, paced; cut those whose clients have not taken the end in time."""
        self.is_draining = True
        _log.info("ending all streams", streams=len(self._connections))
        try:
            async with asyncio.timeout(seconds):
                await drain(self._connections, seconds * _PACED_SHARE)
                while self._connections:
                    self._empty.clear()
                    # Some began meanwhile, with what could not be refused any more.
                    for connection in tuple(self._connections):
                        connection.end("drained")
                    await self._empty.wait()
        except TimeoutError:
            _log.warning("cutting streams", streams=len(self._connections))
            for connection in tuple(self._connections):
                connection.abort()


def _check(due: list[ClientConnection]) -> Iterator[None]:
    for connection in due:
        try:
            connection.check()
        except Exception:  # noqa: BLE001 - a bug of ours; the others are due all the same
            _log.exception("stream failed")
            connection.abort()
        yield
