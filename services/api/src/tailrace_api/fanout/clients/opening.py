"""Open a stream: write its beginning, replay history, and join the live topic.

A stream begins with history. When the history is exhausted and the execution has not ended, the
connection joins the topic and reads history again up to the floor of the topic's ring. Commits
stored before the topic subscribed are below the floor; all later ones are in the ring. So no event
is missed or sent twice. A connection whose cursor is already in the ring reads no history. A new
stream of a tenant begins at the ring's edge, with a snapshot if the dialect has a state.

An opening exists only until the stream is live, so that live connections stay small.
"""

import asyncio
import contextlib
from typing import Final

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.encoding import reset, with_last_id
from tailrace_api.dialects.multiplex import Multiplex
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.clients.set_opening import SetOpening
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.resume import SetStart, Start
from tailrace_api.fanout.topics.memory_budget import TopicRefusedError
from tailrace_api.fanout.topics.merged_ring import MergedRing
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.tenant_topic import TenantTopic
from tailrace_api.fanout.topics.topic import Topic
from tailrace_api.fanout.topics.topic_set import TopicSet
from tailrace_api.fanout.views.view import Logged
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import chunk
from tailrace_shared.errors import JetStreamError, UnavailableError

_MAX_LAGGING_READS: Final = 4
_RETRY_S: Final = 0.25
# Time for the live log of this process to reach what another replica has sent to the client.
_MAX_BEHIND_S: Final = 4.0


class StreamOpening:
    """Brings one connection from its start to the ring of its topic."""

    def __init__(self, connection: ClientConnection, history: History, start: Start) -> None:
        self.connection = connection
        self._history = history
        self._topics = history.topics
        self._runtime = history.runtime
        self._start = start
        self._is_fresh = start.is_fresh
        self._rest = start.rest
        self._has_to_open = start.is_fresh or start.rest is not None
        self._set_opening: SetOpening | None = None
        self._has_reached_back = False
        # Blocks that come before everything else, as long as they have not been sent.
        self._unsent: list[Block] = []
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
        # It belongs to the first block, whichever that will be.
        head = frame.retry(self._runtime.retry_milliseconds())
        blocks = connection.view.greeting(self._runtime.wall_milliseconds())
        if start.reset:
            blocks.append(start.reset)
        if self._is_fresh or self._rest:
            # They wait for a position to carry.
            self._unsent = blocks
        else:
            # Some clients (httpx-sse) begin each connection without an id. If they are disconnected
            # right after the greeting, they would lose their position.
            connection.last_sent = start.seen
            head += with_last_id(blocks, str(start.seen or ""))
        connection.write(chunk(head))

    async def _step(self) -> None:
        connection = self.connection
        topic = connection.topic = connection.topic or self._join()
        ring = topic.ring if topic else None
        if connection.writer.is_paused or (topic and ring is None):
            await connection.wait()
            return
        if topic and self._has_to_open:
            # Before the turn: clients that come together share it.
            self._has_to_open = False
            await self._history.refresh_missing(topic)
        if isinstance(topic, TopicSet) and self._rest:
            # Before the turn as well: others need not wait for what only this client has seen.
            await self._reach_client(topic)
        part = connection.view.part
        # Clients of an execution share all they read, so they need not wait for each other.
        turn = contextlib.nullcontext() if part.execution else self._runtime.turns.of(part.tenant)
        async with turn:
            if connection.can_write:
                await self._advance(topic, ring)

    async def _advance(
        self, topic: Topic | TopicSet | None, ring: Ring | MergedRing | None
    ) -> None:
        connection = self.connection
        if topic is None or ring is None:
            await self._replay(None)
        elif isinstance(topic, TopicSet) and (self._is_fresh or self._rest):
            await self._open_set(topic)
        elif self._is_fresh:
            self._start_at_edge(topic, ring)
        elif connection.sequence >= ring.floor:
            connection.go_live(ring)
        elif not isinstance(topic, TenantTopic | TopicSet):
            await self._replay(ring)
        elif connection.view.dialect.is_cumulative:
            await self._replay_cumulative(topic)
        elif not self._has_reached_back:
            self._has_reached_back = True
            await topic.reach_back(connection.sequence)
        else:
            await self._replay(ring)

    async def _reach_client(self, topic: TopicSet) -> None:
        """Wait until the rings have what the client has.

        Topics are opened at the edge of the rings. The client may come from a replica that was
        ahead of this one, and a page of the log may be ahead of live delivery. If its topics were
        opened before what it has, it would get that twice.
        """
        connection = self.connection
        passed = connection.sequence if connection.index else connection.sequence - 1
        if topic.ring is None or topic.ring.edge >= passed:
            return
        try:
            async with asyncio.timeout(_MAX_BEHIND_S):
                await topic.reached(passed)
        except TimeoutError:
            raise UnavailableError("live delivery lags behind the client") from None

    async def _open_set(self, topic: TopicSet) -> None:
        dialect = topic.view.dialect
        if self._set_opening is None:
            rest = self._rest or SetStart(
                dialect.to_open() if isinstance(dialect, Multiplex) else ()
            )
            head, self._unsent = self._unsent, []
            self._set_opening = SetOpening(self.connection, self._history, rest, head)
        if not await self._set_opening.step(topic):
            self._set_opening = None
            self._begin_anew()
        elif self._set_opening.is_done:
            self._set_opening, self._is_fresh = None, False
            self._rest = None

    def _join(self) -> Topic | TopicSet | None:
        connection, view = self.connection, self.connection.view
        if not view.part.execution:
            return self._topics.join(view, connection)
        return self._topics.join_at(view, connection.sequence, connection)

    def _start_at_edge(self, topic: Topic | TopicSet, ring: Ring | MergedRing) -> None:
        connection = self.connection
        self._is_fresh = False
        connection.sequence, connection.index = ring.edge + 1, 0
        end = ring.end
        milliseconds = self._runtime.wall_milliseconds()
        connection.last_seen = connection.last_sent = end
        wire = topic.opening(milliseconds)
        # The last block of the beginning has the position.
        event_id = "" if wire else str(end)
        first = with_last_id(self._unsent, event_id)
        if not (first or wire):
            first = frame.position(event_id)
        connection.write_held(chunk(first) + wire)

    async def _replay_cumulative(self, topic: TenantTopic | TopicSet) -> None:
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
        self._unsent = [reset("expired", None)]
        self._runtime.counts.resets += 1
        self._is_fresh, self._rest, self._has_to_open = True, None, True
        self.connection.last_seen = self.connection.last_sent = None

    async def _replay(self, ring: Ring | MergedRing | None) -> None:
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
        if await self._newest(connection.sequence) is None:
            if floor > connection.sequence:
                connection.sequence, connection.index = floor, 0
            self._lagging_reads = 0
        elif self._lagging_reads < _MAX_LAGGING_READS:
            self._lagging_reads += 1
            await asyncio.sleep(_RETRY_S)
        else:
            raise UnavailableError("the replica of the log that answered lags behind")

    async def _newest(self, first: int) -> Logged | None:
        """Return the newest commit from a sequence on; None only if there certainly is none."""
        topic = self.connection.topic
        if isinstance(topic, TenantTopic | TopicSet):
            newest = topic.newest
            return None if newest is None or newest.sequence < first else newest
        return await self._history.edges.newest(self.connection.view.part, first)
