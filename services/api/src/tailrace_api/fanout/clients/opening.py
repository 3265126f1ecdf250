"""Open a stream: write its beginning, replay history, and join the live topic.

A stream begins with history. When the history is exhausted and the execution has not ended, the
connection joins the topic and reads history again up to the floor of the topic's ring. Commits
stored before the topic subscribed are below the floor; all later ones are in the ring. So no event
is missed or sent twice. A connection whose cursor is already in the ring reads no history. A new
stream of a tenant begins at the ring's edge, with a snapshot if the dialect has a state.

An opening exists only until the stream is live, so that live connections stay small.
"""

import asyncio
from typing import Final

from tailrace_api.dialects.encoding import reset
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.topics.memory_budget import TopicRefusedError
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.topic import Topic
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import chunk
from tailrace_shared.errors import JetStreamError, UnavailableError

_MAX_LAGGING_READS: Final = 4
_RETRY_S: Final = 0.25


class StreamOpening:
    """Brings one connection from its start to the ring of its topic."""

    def __init__(self, connection: ClientConnection, history: History, start: Start) -> None:
        self.connection = connection
        self._history = history
        self._topics = history.topics
        self._runtime = history.runtime
        self._start = start
        self._is_fresh = start.is_fresh
        self._lagging_reads = 0
        # The number of history events sent; None if no history was needed.
        self._replayed: int | None = None

    async def run(self) -> None:
        """Write the beginning of the stream; return when it is live or has ended."""
        connection = self.connection
        if connection.is_lost:
            return
        connection.watch()
        self._write_head()
        if self._start.is_gone:
            connection.end("gone")
        try:
            while not (connection.ring or connection.reason):
                await self._step()
        except (UnavailableError, JetStreamError):
            # The client reconnects with its last id, perhaps to a replica that reaches NATS.
            connection.end("unavailable")
        except TopicRefusedError as error:
            self._runtime.counts.refused[error.reason] += 1
            connection.end(error.reason)
        if self._replayed is not None:
            self._runtime.counts.depth.observe(self._replayed)

    def _write_head(self) -> None:
        connection, start = self.connection, self._start
        head = frame.retry(self._runtime.retry_milliseconds())
        if start.seen and not start.reset:
            # Some clients (httpx-sse) begin each connection without an id. If they are disconnected
            # right after the greeting, they would lose their position.
            connection.last_sent = start.seen
            head += frame.position(str(start.seen))
        head += connection.view.greeting(self._runtime.wall_milliseconds())
        connection.write(chunk(head + start.reset))

    async def _step(self) -> None:
        connection = self.connection
        topic = connection.topic = connection.topic or self._join()
        ring = topic.ring if topic else None
        if connection.writer.is_paused or (topic and ring is None):
            await connection.wait()
        elif topic is None or ring is None:
            await self._replay(None)
        elif self._is_fresh:
            await self._start_at_edge(topic, ring)
        elif connection.sequence >= ring.floor:
            connection.go_live(ring)
        elif connection.view.dialect.is_cumulative:
            await self._replay_cumulative(topic)
        else:
            await self._replay(ring)

    def _join(self) -> Topic | None:
        connection, view = self.connection, self.connection.view
        if self._is_fresh or view.dialect.is_cumulative:
            return self._topics.join(view, connection)
        return self._topics.join_at(view, connection.sequence, connection)

    async def _start_at_edge(self, topic: Topic, ring: Ring) -> None:
        connection, view = self.connection, self.connection.view
        await self._history.refresh_missing(topic)
        if not await connection.is_writable():
            return
        self._is_fresh = False
        connection.sequence, connection.index = ring.edge + 1, 0
        edge, end = ring.edge, ring.end
        unsent = topic.opening(self._runtime.wall_milliseconds())
        for execution in view.dialect.backfill_executions:
            async for blocks in self._history.backfill(view, execution, edge):
                if not await connection.is_writable():
                    return
                connection.write_held(unsent)
                unsent = chunk(blocks)
        if await connection.is_writable():
            # The position comes last: a client that is disconnected during the snapshot or the
            # backfill must get both again.
            connection.last_seen = connection.last_sent = end
            connection.write_held(unsent + chunk(frame.position(str(end))))

    async def _replay_cumulative(self, topic: Topic) -> None:
        connection = self.connection
        batch = await self._history.replay_cumulative(topic, connection.sequence, connection.index)
        if connection.reason or connection.writer.is_paused:
            return  # a heartbeat was written meanwhile
        if batch is None:
            self._begin_anew()
        else:
            self._replayed = (self._replayed or 0) + batch.events
            connection.deliver(batch)

    def _begin_anew(self) -> None:
        """Tell the client that events after its id are deleted, and start at the topic's edge."""
        self.connection.write(chunk(reset("expired", None)))
        self._runtime.counts.resets += 1
        self._is_fresh = True

    async def _replay(self, ring: Ring | None) -> None:
        connection, view = self.connection, self.connection.view
        epoch = connection.topic.epoch if connection.topic else self._runtime.epoch
        page = await self._history.page(view, epoch, connection.sequence, connection.index)
        if connection.reason or connection.writer.is_paused:
            return  # a heartbeat was written meanwhile
        if page.is_torn:
            self._begin_anew()
            return
        if page.batch is not None:
            self._replayed = (self._replayed or 0) + page.batch.events
            connection.deliver(page.batch)
        if page.more or connection.reason:
            return
        if connection.topic is None:
            connection.topic = self._topics.join(view, connection)
        elif ring is not None and page.batch is None:
            await self._skip_to(ring.floor)

    async def _skip_to(self, floor: int) -> None:
        # The log has no commits between the cursor and the floor, or the replica that answered
        # lags; a lagging replica gets time to catch up.
        connection = self.connection
        part = connection.view.part
        if await self._history.edges.newest(part, connection.sequence) is None:
            connection.sequence, connection.index = max(floor, connection.sequence), 0
            self._lagging_reads = 0
        elif self._lagging_reads < _MAX_LAGGING_READS:
            self._lagging_reads += 1
            await asyncio.sleep(_RETRY_S)
        else:
            raise UnavailableError("the replica of the log that answered lags behind")
