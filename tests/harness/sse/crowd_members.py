"""The clients of a crowd: readers, stalled clients, and clients that read single bytes.

A reader behaves like a browser's EventSource: it reconnects with its last id after the delay that
the server sent, and stops for good on any status other than 200. It records the id of each event,
the delay of each event that contains the time of its writing (``@<nanoseconds>@``), and the times
without a connection.
"""

import asyncio
import re
import socket
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self, cast

_ID: Final = re.compile(rb"^id: ?(.*)$", re.MULTILINE)
_DATA: Final = re.compile(rb"^data:", re.MULTILINE)
# Blocks that describe the stream: the log does not contain them.
_OF_STREAM: Final = re.compile(rb"^event: ?(?:stream:|connected$)", re.MULTILINE)
_RETRY: Final = re.compile(rb"^retry: ?(\d+)$", re.MULTILINE)
_WRITTEN_AT: Final = re.compile(rb"@(\d+)@")
_LENGTH: Final = re.compile(rb"(?i)^content-length: *(\d+)", re.MULTILINE)
# With loopback's segments of 64 KB the kernel would buffer megabytes for a stalled client; these
# two values make it behave like a client on an Ethernet.
_ETHERNET_SEGMENT_BYTES: Final = 1460
_SMALL_BUFFER_BYTES: Final = 4096
_DRIP_PAUSE_S: Final = 0.1


class Target(NamedTuple):
    """The stream that a client requests."""

    port: int
    path: str
    last_event_id: str = ""

    @classmethod
    def execution(cls, port: int, execution: str, last_event_id: str = "") -> Self:
        """Return the stream of an execution."""
        return cls(port, f"/api/v1/sse/executions/{execution}/stream", last_event_id)

    def request(self, last_event_id: str) -> bytes:
        """Return the HTTP request; it resumes after an id, unless that is empty."""
        resume = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
        return (
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Accept: text/event-stream\r\n{resume}\r\n"
        ).encode()


@dataclass(slots=True)
class Notes:
    """The observations of all clients of a crowd.

    Attributes:
        statuses: number of responses by status.
        delays: seconds from the writing of an event to its arrival at a reader.
        gaps: seconds that readers were without a connection.
        resets: number of ``stream:reset`` events.
        heard: called with the id of each event, once per reader.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    delays: "array[float]" = field(default_factory=lambda: array("d"))
    gaps: "array[float]" = field(default_factory=lambda: array("d"))
    resets: int = 0
    heard: Callable[[str], None] = lambda _id: None


class Reader(asyncio.Protocol):
    """A client that reads everything.

    Attributes:
        ids: the ids of the events that it has received, in order.
        connected: set when its first response begins.
        done: set when it stops for good.
    """

    def __init__(self, target: Target, notes: Notes) -> None:
        self.ids: list[str] = []
        self.connected = asyncio.Event()
        self.done = asyncio.Event()
        self._target = target
        self._notes = notes
        self._last_event_id = target.last_event_id
        self._retry = 1.0
        self._lost_at = 0.0
        self._transport: asyncio.Transport
        self._begin()

    def _begin(self) -> None:
        self._in_body = False
        # Bytes left of the current chunk, or of a body with Content-Length.
        self._left = 0
        self._is_chunked = True
        self._raw = b""
        self._body = b""

    async def connect(self) -> None:
        """Connect, and retry later if the server does not listen."""
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, "127.0.0.1", self._target.port)
        except OSError:
            self._reconnect_later()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._begin()
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._target.request(self._last_event_id))

    def connection_lost(self, _error: Exception | None) -> None:
        """Reconnect, unless the stream is over."""
        if not self.done.is_set():
            self._lost_at = self._lost_at or time.monotonic()
            self._reconnect_later()

    def _reconnect_later(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._retry, lambda: loop.create_task(self.connect()))

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, cut anywhere."""
        self._raw = self._raw + data if self._raw else data
        if not self._in_body and not self._take_head():
            return
        while self._raw and not self._transport.is_closing():
            if not self._left and not self._next_chunk():
                return
            piece, self._raw = self._raw[: self._left], self._raw[self._left :]
            self._left -= len(piece)
            self._take_body(piece)
            if not self._is_chunked and not self._left:
                self._transport.close()

    def _take_head(self) -> bool:
        head, separator, rest = self._raw.partition(b"\r\n\r\n")
        if not separator:
            return False
        status = int(head[9:12])
        self._notes.statuses[status] += 1
        self._raw, self._in_body = rest, True
        if status != 200:
            self.done.set()
            self._transport.close()
        elif self._lost_at:
            self._notes.gaps.append(time.monotonic() - self._lost_at)
        self._lost_at = 0.0
        self.connected.set()
        if length := _LENGTH.search(head):
            self._is_chunked, self._left = False, int(length.group(1))
        return True

    def _next_chunk(self) -> bool:
        # The line end of the previous chunk, and the size of this one.
        start = 2 if self._raw.startswith(b"\r\n") else 0
        end = self._raw.find(b"\r\n", start)
        if end < 0:
            return False
        self._left = int(self._raw[start:end], 16)
        self._raw = self._raw[end + 2 :]
        if not self._left:
            self._transport.close()
        return self._left > 0

    def _take_body(self, piece: bytes) -> None:
        body = self._body + piece if self._body else piece
        if b"\n\n" not in body:
            self._body = body
            return
        *blocks, self._body = body.split(b"\n\n")
        now = time.monotonic_ns()
        for block in blocks:
            self._take_block(block, now)

    def _take_block(self, block: bytes, now: int) -> None:
        # Test for the substring first: the regular expression is slow on large events.
        if b"retry:" in block and (retry := _RETRY.search(block)):
            self._retry = int(retry.group(1)) / 1000
        if b"event: stream:reset" in block:
            self._notes.resets += 1
        if not (own_id := _ID.search(block)):
            return
        # All readers receive the same ids, so let them share the strings.
        self._last_event_id = sys.intern(own_id.group(1).decode())
        if _OF_STREAM.search(block) or not _DATA.search(block):
            return
        self.ids.append(self._last_event_id)
        if written_at := _WRITTEN_AT.search(block):
            self._notes.delays.append((now - int(written_at.group(1))) / 1e9)
        self._notes.heard(self._last_event_id)


class Staller(asyncio.Protocol):
    """A client that reads the beginning of its response and then stops reading."""

    def __init__(self, target: Target) -> None:
        self.connected = asyncio.Event()
        self._target = target
        self._transport: asyncio.Transport

    async def connect(self) -> None:
        """Connect with a small receive buffer."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, sock=await _slow_socket(self._target.port))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._target.request(self._target.last_event_id))

    def data_received(self, _data: bytes) -> None:
        """Stop reading."""
        self._transport.pause_reading()
        self.connected.set()


class Dripper:
    """A client that reads one byte at a time, with a pause in between."""

    def __init__(self, target: Target) -> None:
        self.connected = asyncio.Event()
        self._target = target
        self._dripping: asyncio.Task[None]

    async def connect(self) -> None:
        """Connect with a small receive buffer."""
        channel = await _slow_socket(self._target.port)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(channel, self._target.request(self._target.last_event_id))
        self._dripping = loop.create_task(self._drip(channel))

    async def _drip(self, channel: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # The server may close the connection.
        with channel, suppress(OSError):
            while await loop.sock_recv(channel, 1):
                self.connected.set()
                await asyncio.sleep(_DRIP_PAUSE_S)


async def _slow_socket(port: int) -> socket.socket:
    channel = socket.socket()
    channel.setblocking(False)
    # Before connecting: the handshake announces both.
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER_BYTES)
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _ETHERNET_SEGMENT_BYTES)
    await asyncio.get_running_loop().sock_connect(channel, ("127.0.0.1", port))
    return channel
