"""The hub: all topics and all connections of this process.

Topics live as long as they have followers. Whenever the hub has reason to doubt that live commits
came through (NATS reconnected, or dropped messages because this process was slow), and now and
then without a reason, it asks the log how far each topic's execution has come, and tells the
topics.
"""

import asyncio
import contextlib
import random
from typing import Final, NamedTuple

import structlog

from tailrace_api.fanout.connection import Connection
from tailrace_api.fanout.replay import Page, Replay
from tailrace_api.fanout.resume import Start
from tailrace_api.fanout.source import LiveSource
from tailrace_api.fanout.topic import RingBounds, Topic, View
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects

_PAUSE: Final = 0.25

_log = structlog.get_logger("tailrace.api.fanout")


class StreamTimes(NamedTuple):
    """How streams keep time, in seconds.

    Attributes:
        heartbeat: silence after which a stream carries a heartbeat.
        retry: the middle of the reconnect delays that clients are told.
        stall: how long a client may take nothing before it is cut.
    """

    heartbeat: float
    retry: float
    stall: float


class Hub:
    """Topics by what they show, and the connections that follow them.

    Attributes:
        epoch: the epoch of the log.
        is_draining: whether streams are being ended for good.
    """

    def __init__(
        self,
        log: ExecutionLog,
        source: LiveSource,
        subjects: Subjects,
        epoch: str,
        times: StreamTimes,
        bounds: RingBounds,
    ) -> None:
        self.epoch = epoch
        self.is_draining = False
        self.heartbeat, self._retry, self.stall = times
        self._log = log
        self._source = source
        self._subjects = subjects
        self._bounds = bounds
        self._replay = Replay(log)
        self._topics: dict[View, Topic] = {}
        self._keepers: set[asyncio.Task[None]] = set()
        self._connections: set[Connection] = set()
        self._doubted = asyncio.Event()
        self._empty = asyncio.Event()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """How many connections, topics and live subscriptions there are."""
        return len(self._connections), len(self._keepers), len(self._source)

    @property
    def is_open(self) -> bool:
        """Whether a new stream has a chance here and now."""
        return not self.is_draining and self._source.is_connected

    def retry_milliseconds(self) -> int:
        """Return a reconnect delay for one client.

        Clients that lost their replica together come back over a while, not together.
        """
        return int(self._retry * random.uniform(500, 1500))  # noqa: S311

    def connect(self, view: View, start: Start) -> Connection:
        """Return a new connection, which holds nothing until it runs."""
        return Connection(self, view, start)

    def admit(self, connection: Connection) -> None:
        """Count a connection that has begun to run."""
        self._connections.add(connection)
        if self.is_draining:
            connection.end()

    def forget(self, connection: Connection) -> None:
        """Forget a connection that has closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    async def page(self, view: View, from_sequence: int) -> Page:
        """Return a page of history.

        Raises:
            UnavailableError: NATS did not answer.
        """
        return await self._replay.page(view, self.epoch, from_sequence)

    def join(self, view: View, connection: Connection) -> Topic:
        """Return the topic that shows ``view``, and have it wake the connection."""
        topic = self._topics.get(view)
        if topic is None:
            topic = self._topics[view] = Topic(view, self.epoch, self._bounds)
            subject = self._subjects.live(view.tenant, view.execution)
            keeper = asyncio.create_task(topic.keep(self._source, self._log, subject))
            self._keepers.add(keeper)
            keeper.add_done_callback(lambda done: self._kept(topic, done))
        topic.followers.add(connection)
        return topic

    def _kept(self, topic: Topic, keeper: asyncio.Task[None]) -> None:
        self._keepers.discard(keeper)
        if not keeper.cancelled() and (error := keeper.exception()):
            # A bug of ours must not leave clients with heartbeats and nothing else.
            _log.error("topic failed", execution=topic.view.execution, exc_info=error)
            if self._topics.get(topic.view) is topic:
                del self._topics[topic.view]
            for follower in tuple(topic.followers):
                follower.end()

    def leave(self, topic: Topic, connection: Connection) -> None:
        """Take a connection out of a topic; the last one to leave closes it."""
        topic.followers.discard(connection)
        if not topic.followers and self._topics.get(topic.view) is topic:
            del self._topics[topic.view]
            topic.close()

    def doubt(self) -> bool:
        """Have every topic compared with the log soon; returns whether that is news."""
        is_news = not self._doubted.is_set()
        self._doubted.set()
        return is_news

    async def watch(self) -> None:
        """Compare topics with the log, whenever there is doubt and every heartbeat, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.heartbeat):
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
        edge = await self._log.edge()
        if edge.epoch != self.epoch:
            _log.warning("the log was recreated", epoch=edge.epoch, before=self.epoch)
            self.epoch = edge.epoch
            # Ids and rings belong to the epoch. Clients come back and are told in the stream.
            self._end_all()
            return
        last = await self._log.last_sequences(
            {(topic.view.tenant, topic.view.execution) for topic in topics}
        )
        for topic in topics:
            if shown.get(topic, 0) > edge.last_sequence:
                # NATS lost what it had not written to disk; we have shown what never was.
                _log.error("the log went back", execution=topic.view.execution)
                for follower in tuple(topic.followers):
                    follower.end()
            topic.reach(last.get((topic.view.tenant, topic.view.execution), 0))

    def _end_all(self) -> None:
        for connection in tuple(self._connections):
            connection.end()

    async def drain(self, seconds: float) -> None:
        """End all streams; cut those whose clients have not taken the end in time."""
        self.is_draining = True
        _log.info("ending all streams", streams=len(self._connections))
        if not self._connections:
            return
        self._empty.clear()
        self._end_all()
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            _log.warning("cutting streams", streams=len(self._connections))
            for connection in tuple(self._connections):
                connection.abort()
