"""The opening of a stream of several topics.

First, the topics that the client has had before are brought up to the edge. Then the others are
opened at exactly that position, one after the other: a topic with a state by its snapshot, an
execution by its past events. Until all are open, ids say how far the opening is
(`tailrace_api.fanout.views.opening_position`), so a client that is disconnected in between misses
nothing, and gets at most the snapshot of one topic twice.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.encoding import with_last_id
from tailrace_api.dialects.multiplex import NamedTopic
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.history.history import History
from tailrace_api.fanout.history.resume import SetStart
from tailrace_api.fanout.topics.topic_set import TopicSet
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.opening_position import OpeningPosition, with_final_id
from tailrace_api.fanout.views.view import View
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import chunk
from tailrace_shared.errors import UnavailableError
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.position import StreamPosition
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.subjects import LogFilter

_MAX_LAGGING_READS: Final = 4
_RETRY_S: Final = 0.25


class SetOpening:
    """Brings one connection to the edge of a set, where all its topics are open.

    Args:
        connection: the connection; its cursor is that of the topics that it has had before.
        start: the topics to open.
        head: blocks that come before everything else.
    """

    def __init__(
        self,
        connection: ClientConnection,
        history: History,
        start: SetStart,
        head: Sequence[Block],
    ) -> None:
        self._connection = connection
        self._history = history
        self._topics = deque(start.topics[start.opened :])
        self._opened = start.opened
        self._inside = start.inside
        # The lowest sequence to read next of the execution that is being opened. The client may
        # lack events of the commit that it is in.
        self._next = start.inside[0] if start.inside else 1
        self._head = list(head)
        # The id that the client has, or will have after the head.
        self._position = ""
        if connection.last_seen is not None:
            self._position = str(OpeningPosition(connection.last_seen, self._opened, self._inside))
        self._lagging_reads = 0
        # The edge, once it is known, and what opens the topics that have a state there.
        self._base: StreamPosition | None = None
        self._snapshots: Mapping[NamedTopic, Sequence[Block]] = {}
        self._newest: Mapping[str, int] | None = None

    @property
    def is_done(self) -> bool:
        """Whether all topics are open."""
        return self._base is not None and not self._topics

    async def step(self, topic: TopicSet) -> bool:
        """Write the next part; the connection must be writable.

        Returns:
            False if events from the connection's cursor on may be deleted.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        if self._base is None:
            return await self._catch_up(topic)
        named = self._topics[0]
        if named.execution:
            await self._open_execution(topic, named, self._base)
        else:
            self._write_all(self._base, self._snapshots[named])
        return True

    # The topics that the client has had before

    async def _catch_up(self, topic: TopicSet) -> bool:
        part, cursor = topic.without(self._topics), self._connection.sequence
        if part is None or part.ring is None or not self._position:
            self._begin(topic)
        elif cursor < part.ring.floor:
            return await self._replay(part, part.ring.floor)
        elif cursor <= part.ring.newest:
            self._deliver(part.ring.batch(cursor, self._connection.index))
        else:
            self._begin(topic)
        return True

    async def _replay(self, part: TopicSet, floor: int) -> bool:
        connection, history = self._connection, self._history
        sequence, index = connection.sequence, connection.index
        if part.view.dialect.is_cumulative:
            batch = await history.replay_cumulative(part, sequence, index)
            if batch is not None and connection.can_write:
                self._deliver(batch)
            return batch is not None
        page = await history.page(part.view, part.epoch, sequence, index)
        if page.is_torn or not connection.can_write:
            return not page.is_torn
        if page.batch is not None:
            self._deliver(page.batch)
        elif not page.more:
            await self._skip_to(part, floor)
        return True

    async def _skip_to(self, part: TopicSet, floor: int) -> None:
        # Nothing lies between the cursor and the floor, or the replica that answered lags.
        connection, newest = self._connection, part.newest
        if newest is None or newest.sequence < connection.sequence:
            connection.sequence, connection.index = floor, 0
        elif self._lagging_reads < _MAX_LAGGING_READS:
            self._lagging_reads += 1
            await asyncio.sleep(_RETRY_S)
        else:
            raise UnavailableError("the replica of the log that answered lags behind")

    def _deliver(self, batch: Batch) -> None:
        connection = self._connection
        connection.sequence, connection.index = batch.next_sequence, 0
        if batch.last_shown is not None:
            position = OpeningPosition(batch.last_shown, self._opened, self._inside)
            self._write(position.stamp(batch.wire), str(position))

    # The other topics

    def _begin(self, topic: TopicSet) -> None:
        """Take the edge as the position at which topics are opened, and their states at it."""
        if topic.ring is None:
            raise RuntimeError("a set without a ring has no edge")
        self._base = base = topic.ring.end
        self._connection.sequence, self._connection.index = topic.ring.edge + 1, 0
        milliseconds = self._history.runtime.wall_milliseconds()
        self._snapshots = topic.snapshots(self._topics, milliseconds)
        self._skip_empty()
        if not self._topics:
            self._finish(base, b"" if self._head else chunk(frame.position(str(base))))
        else:
            self._position = str(OpeningPosition(base, self._opened, self._inside))

    async def _open_execution(
        self, topic: TopicSet, named: NamedTopic, base: StreamPosition
    ) -> None:
        """Write a page of the past of an execution."""
        tenant = topic.view.part.tenant
        if self._newest is None:
            names = [each.execution for each in self._topics if each.execution]
            self._newest = await self._history.newest_commits.of(tenant, names, topic.newest)
        newest = self._newest.get(named.execution)
        view = View(named, LogFilter(tenant, named.execution))
        last = min(newest or 0, base.sequence)
        page = await self._page(view, last)
        if not self._connection.can_write:
            return
        if newest is None:
            self._write_all(base, (named.absence(),))
            return
        wire = self._encode(view, topic.epoch, page, base)
        self._next = page[-1].sequence + 1 if page else last + 1
        if not page or page[-1].sequence >= last:
            self._close()
        if self._topics:
            self._write(wire, str(OpeningPosition(base, self._opened, self._inside)))
        else:
            self._finish(base, with_final_id(wire, str(base)))

    async def _page(self, view: View, last: int) -> Sequence[Commit]:
        if not last:
            return ()
        first = min(self._next, last)

        async def read() -> Sequence[Commit]:
            return await self._history.replay.commits(view.part, first)

        return await until_caught_up(read, bool, f"execution {view.part.execution!r}")

    def _encode(
        self, view: View, epoch: str, page: Sequence[Commit], base: StreamPosition
    ) -> bytes:
        context = Context(view.part.execution)
        shown = [
            view.encode(epoch, commit, context)
            for commit in page
            if commit.sequence <= base.sequence
        ]
        if not shown:
            return b""
        sequence, index = self._inside or (0, 0)
        skipped = index + 1 if shown[0].sequence == sequence else 0
        position = OpeningPosition(base, self._opened)
        self._inside = shown[-1].sequence, max(shown[-1].last_index, 0)
        return position.stamp_inside(Batch.of(epoch, shown, skipped).wire)

    def _write_all(self, base: StreamPosition, blocks: Sequence[Block]) -> None:
        """Write all blocks that open a topic."""
        self._close()
        if self._topics:
            position = str(OpeningPosition(base, self._opened))
            self._write(chunk(with_last_id(blocks, position)), position)
        else:
            self._finish(base, chunk(with_last_id(blocks, str(base))))

    def _close(self) -> None:
        """Go on to the next topic that shows anything."""
        self._topics.popleft()
        self._opened += 1
        self._inside, self._next = None, 1
        self._skip_empty()

    def _skip_empty(self) -> None:
        while self._topics and not (self._topics[0].execution or self._snapshots[self._topics[0]]):
            self._topics.popleft()
            self._opened += 1

    def _finish(self, base: StreamPosition, wire: bytes) -> None:
        """Write the last part, whose last block has the position from which the stream goes on."""
        if not wire:
            self._position = str(base)
        self._connection.last_seen = self._connection.last_sent = base
        self._write(wire, str(base))

    def _write(self, wire: bytes, position: str) -> None:
        """Write chunks, after the blocks that come before everything else."""
        head, self._head = self._head, []
        # The opening can be resumed from the first block on.
        begun = chunk(with_last_id(head, self._position))
        self._position = position
        if begun or wire:
            self._connection.write_held(begun + wire)
