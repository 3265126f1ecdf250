"""A client of the hub without a socket: a client writer with flow control, and a parser."""

import asyncio

from harness.sse.client import SseEvent, SseParser
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.views.view import View
from tailrace_api.sse.chunk import bodies


class MemoryClient:
    """One stream, read in memory.

    Attributes:
        connection: the connection that writes to this client.
        is_paused: whether it accepts no data now.
        parser: the parser of the stream.
        events: the events received so far.
        writes: the data of each write.
        ended: set when the stream has ended in good order.
        is_cut: whether the hub aborted it.
    """

    connection: ClientConnection | None = None

    def __init__(self) -> None:
        self.is_paused = False
        self.backlog = 0
        self.parser = SseParser()
        self.events: list[SseEvent] = []
        self.writes: list[bytes] = []
        self.ended = asyncio.Event()
        self.is_cut = False
        self._is_lost = False
        self._room: int | None = None

    @classmethod
    async def open(cls, hub: Hub, view: View, start: Start) -> "MemoryClient":
        """Open a stream; return when it is live or has ended."""
        client = cls()
        await client.connect(hub, view, start)
        return client

    async def connect(self, hub: Hub, view: View, start: Start, until: float | None = None) -> None:
        """Open a stream that ends at ``until``, the expiry of its token."""
        opening = hub.connect(view, start, self, until)
        self.connection = opening.connection
        if self._is_lost:
            self.connection.on_lost()
        await opening.run()

    # The client

    def takes_only(self, size: int) -> None:
        """Accept ``size`` more bytes, then nothing until ``resume``."""
        self._room = size

    def resume(self) -> None:
        """Accept everything again."""
        self._room = None
        if self.is_paused:
            self.is_paused = False
            self.backlog = 0
            assert self.connection is not None
            self.connection.on_resumed()

    def leave(self) -> None:
        """Close the connection from the client's side."""
        if not self._is_lost:
            self._is_lost = True
            if self.connection is not None:
                self.connection.on_lost()

    # The client writer

    def write(self, wire: bytes) -> None:
        """Accept data, and pause once there is no more room."""
        assert not self.is_paused, "a paused client was written to"
        assert not self.ended.is_set(), "an ended stream was written to"
        if self._is_lost:
            return
        self._take(wire)
        if self._room is not None:
            self._room -= len(wire)
            if self._room < 0:
                self.is_paused, self.backlog = True, -self._room
                assert self.connection is not None
                self.connection.on_paused()

    def _take(self, wire: bytes) -> None:
        self.writes.append(wire)
        for body in bodies(wire):
            self.events += self.parser.feed(body)

    def end(self, wire: bytes, *, reusable: bool) -> None:
        """Accept the last data, and close."""
        del reusable
        assert not self.ended.is_set()
        if not self._is_lost:
            self._take(wire)
        self.ended.set()
        asyncio.get_running_loop().call_soon(self.leave)

    def abort(self) -> None:
        """Close at once."""
        self.is_cut = True
        asyncio.get_running_loop().call_soon(self.leave)
