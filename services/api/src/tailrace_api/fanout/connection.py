"""A connection: one client's cursor into an execution.

It owns no events. What it has not had yet lies in the topic's ring or, below the ring's floor, in
the log; it takes from whichever holds its place, writes, and only then takes more. So a client
that is slow for a while catches up by itself, and one that stalls holds back nobody and nothing.

A stream begins with history. When that runs out and the execution has not ended, the connection
joins the topic, and reads history once more up to the floor of the topic's ring: what was
committed before the topic subscribed is below the floor, everything else is in the ring.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from tailrace_api.dialects.dialect import EncodedCommit
from tailrace_api.fanout.resume import Start
from tailrace_api.fanout.ring import Ring
from tailrace_api.fanout.topic import Topic, View
from tailrace_api.sse import frame
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.position import StreamPosition

if TYPE_CHECKING:
    from tailrace_api.fanout.hub import Hub

_BATCH_BYTES: Final = 64 * 1024
_PATIENCE: Final = 4
_PAUSE: Final = 0.25

Write = Callable[[bytes], Awaitable[None]]


class Connection:
    """One stream of one client.

    Attributes:
        abort: cuts the client off whatever is still to be written; set by who writes.
    """

    def __init__(self, hub: "Hub", view: View, start: Start) -> None:
        self.abort: Callable[[], None] = lambda: None
        self._hub = hub
        self._view = view
        self._start = start
        # The next event to send: of this commit or a later one, and of this commit from here on.
        self._sequence, self._index = start.sequence, start.index
        # How far the client has come, and what of that it has been told on this connection.
        self._seen = start.seen
        self._told: StreamPosition | None = None
        self._topic: Topic | None = None
        self._is_live = False
        self._woken = asyncio.Event()
        self._is_over = start.is_gone
        self._is_ending = False
        self._fruitless = 0
        self._heartbeat_at = 0.0

    def wake(self) -> None:
        """Look for something new."""
        self._woken.set()

    def end(self) -> None:
        """End the stream in good order, soon."""
        self._is_ending = True
        self._woken.set()

    async def run(self, write: Write) -> None:
        """Write the stream until the execution has ended, or until the stream is to end."""
        self._hub.admit(self)
        await self._write(write, self._opening())
        try:
            while not (self._is_over or self._is_ending):
                await self._step(write)
        except (UnavailableError, JetStreamError):
            # The client comes back with its last id, perhaps to a replica that reaches NATS.
            self._is_ending = True
        await self._write(write, self._priming())
        if self._is_ending:
            await self._write(write, frame.retry(self._hub.retry_milliseconds()))

    def close(self) -> None:
        """Give back what the connection holds."""
        if self._topic is not None:
            self._hub.leave(self._topic, self)
        self._hub.forget(self)

    async def _step(self, write: Write) -> None:
        ring = self._topic.ring if self._topic else None
        if self._topic is None or (ring is not None and self._sequence < ring.floor):
            await self._replay(write, ring)
        elif ring is None:
            await self._idle(write)
        elif commits := ring.take(self._sequence, _BATCH_BYTES):
            await self._deliver(write, commits)
            await asyncio.sleep(0)  # a client that takes all it gets must not starve the others
        elif not self._is_live:
            self._is_live = True
            await self._write(write, self._priming())
        else:
            await self._idle(write)

    async def _replay(self, write: Write, ring: Ring | None) -> None:
        floor = ring.floor if ring else None
        page = await self._hub.page(self._view, self._sequence)
        await self._deliver(write, page.commits)
        if page.more or self._is_over:
            return
        if floor is None:
            self._topic = self._hub.join(self._view, self)
        elif self._sequence < floor:
            await self._skip_to(floor)

    async def _skip_to(self, floor: int) -> None:
        # What precedes the floor was in the log. Either it is there no more, or a replica that is
        # not quite up to date has answered; that one gets time.
        if self._fruitless < _PATIENCE:
            self._fruitless += 1
            await asyncio.sleep(_PAUSE)
        else:
            self._sequence, self._index, self._fruitless = floor, 0, 0

    async def _deliver(self, write: Write, commits: Iterable[EncodedCommit]) -> None:
        chunks = []
        for commit in commits:
            index = self._index if commit.sequence == self._sequence else 0
            chunks.append(commit.since(index))
            self._advance(commit, index)
        await self._write(write, b"".join(chunks))

    def _advance(self, commit: EncodedCommit, index: int) -> None:
        self._sequence, self._index = commit.sequence + 1, 0
        self._is_over = self._is_over or commit.is_last
        epoch = self._hub.epoch
        if commit.frames:
            self._seen = StreamPosition(epoch, commit.sequence, len(commit.frames) - 1)
        shown = commit.last_shown(index)
        if shown is not None:
            self._told = StreamPosition(epoch, commit.sequence, shown)

    async def _idle(self, write: Write) -> None:
        self._woken.clear()
        try:
            async with asyncio.timeout_at(self._heartbeat_at):
                await self._woken.wait()
        except TimeoutError:
            await self._write(write, frame.comment("heartbeat") + self._priming())

    def _opening(self) -> bytes:
        retry = frame.retry(self._hub.retry_milliseconds())
        return retry + self._view.dialect.greet(self._view.execution) + self._start.reset

    def _priming(self) -> bytes:
        if self._seen is None or self._seen == self._told:
            return b""
        self._told = self._seen
        return frame.position(str(self._seen))

    async def _write(self, write: Write, data: bytes) -> None:
        if not data:
            return
        loop = asyncio.get_running_loop()
        await write(data)
        self._heartbeat_at = loop.time() + self._hub.heartbeat
