"""An SSE client on a raw socket, which sees every byte and can disconnect after any byte.

The parser follows section 9.2.6 of the HTML standard and shares no code with the API's encoder,
which it checks.
"""

import asyncio
import re
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import msgspec

# In ids of a stream that has not opened all its topics yet.
_OPENING: Final = "~"


@dataclass(slots=True)
class SseEvent:
    """A dispatched event.

    Attributes:
        id: the last event id when it was dispatched.
        own_id: whether its block had an ``id`` line.
        type: ``message`` unless named.
        data: the lines, joined.
    """

    id: str
    own_id: bool
    type: str
    data: str

    def json(self) -> Any:
        """Decode the data."""
        return msgspec.json.decode(self.data)

    @property
    def is_logged(self) -> bool:
        """Whether it is an event of the log; others may have an id, too, to carry the position."""
        is_opening = _OPENING in self.id
        return self.own_id and not is_opening and not is_of_stream(self.type, self.json())


def is_of_stream(name: str, data: Any) -> bool:
    """Return whether a block describes the stream, or is a snapshot: neither is in the log."""
    if isinstance(data, dict) and "topic" in data:
        return is_of_stream(data["event"], data["data"])
    return (
        name.startswith("stream:")
        or name in _NOT_IN_LOG
        or (name == "error" and "pipelineId" in data)
        or (name == "message" and isinstance(data, dict) and data.get("type") == "connected")
    )


_NOT_IN_LOG = {
    *("connected", "heartbeat"),
    *("paused.initial", "batch_update", "runs.initial", "stats.initial"),
}


@dataclass(slots=True)
class SseParser:
    """The parser of an event stream.

    Attributes:
        last_event_id: the value of ``Last-Event-ID`` for a reconnect.
        retry: the last reconnect delay, in ms.
        comments: all comments so far.
        first_id: the first id of the opened stream.
        positions: the ids of blocks that only move the position.
        allows_empty_blocks: whether a block may lack data, as in streams of version 0.2.
    """

    last_event_id: str = ""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)
    first_id: str = ""
    positions: list[str] = field(default_factory=list)
    allows_empty_blocks: bool = False
    _has_fields: bool = False
    _buffer: bytes = b""
    _begun: bool = False
    _data: list[str] = field(default_factory=list)
    _type: str = ""
    _id: str | None = None

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """Parse some bytes, cut anywhere; return the events that they complete."""
        self._buffer += chunk
        return [event for line in self._lines() if (event := self._line(line))]

    def _lines(self) -> Iterator[str]:
        while match := re.search(rb"\r\n|\n|\r", self._buffer):
            if match.group() == b"\r" and match.end() == len(self._buffer):
                return  # an LF may follow
            line, self._buffer = self._buffer[: match.start()], self._buffer[match.end() :]
            if not self._begun:
                self._begun, line = True, line.removeprefix(b"\xef\xbb\xbf")
            yield line.decode(errors="replace")

    def _line(self, line: str) -> SseEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "":
                self.comments.append(value)
            case "data":
                self._data.append(value)
            case "event":
                self._type = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if re.fullmatch("[0-9]+", value):
                self.retry = int(value)
        self._has_fields = True
        return None

    def _dispatch(self) -> SseEvent | None:
        own_id, self._id = self._id, None
        data, self._data = self._data, []
        event_type, self._type = self._type, ""
        if own_id is not None:
            self.last_event_id = own_id
            if not self.first_id and _OPENING not in own_id:
                self.first_id = own_id
        has_fields, self._has_fields = self._has_fields, False
        if not data:
            # Several libraries would dispatch it, and their users would fail to parse it.
            assert not has_fields or self.allows_empty_blocks, "a block without data"
            return None
        if event_type == "stream:position":
            self.positions.append(self.last_event_id)
            return None
        return SseEvent(
            self.last_event_id, own_id is not None, event_type or "message", "\n".join(data)
        )


class SseClient:
    """One connection to a stream.

        async with SseClient(port, path, last_event_id=some_id) as stream:
            async for event in stream: ...

    Attributes:
        status: the status of the response.
        headers: its headers, in lower case.
        parser: the parser of the body.
        received: number of bytes received, including the head.
        is_complete: whether the response has ended as HTTP requires.

    With a small ``receive_buffer``, a client that does not read blocks the server soon.
    """

    def __init__(
        self,
        port: int,
        path: str,
        *,
        method: str = "GET",
        last_event_id: str = "",
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        receive_buffer: int | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.host = host
        self.port = port
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parser = SseParser()
        self.received = 0
        self.is_complete = False
        self._receive_buffer = receive_buffer
        self._request = _request(method, path, last_event_id, headers or {}, body)
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._chunks = b""
        self._chunk_left = 0
        self._body = b""
        self._ready: deque[SseEvent] = deque()

    async def __aenter__(self) -> Self:
        channel = socket.socket()
        channel.setblocking(False)
        if self._receive_buffer is not None:
            # Before connecting: the handshake announces the window.
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        await asyncio.get_running_loop().sock_connect(channel, (self.host, self.port))
        limit = self._receive_buffer or 65536
        self._reader, self._writer = await asyncio.open_connection(sock=channel, limit=limit)
        self._writer.write(self._request)
        return self

    @property
    def local_port(self) -> int:
        """The local port of the connection."""
        port: int = self._writer.get_extra_info("sockname")[1]
        return port

    async def __aexit__(self, *_: object) -> None:
        # Abort, like a browser that is closed, instead of closing in good order.
        self._writer.transport.abort()

    async def __aiter__(self) -> Any:
        while self._ready or not self.is_complete:
            events = await self.read()
            if events is None:
                return
            for event in events:
                yield event

    async def read(self, limit: int = 65536) -> list[SseEvent] | None:
        """Read at most ``limit`` bytes; return their events, or None at the end.

        Events that :meth:`take` has read ahead come first, without reading.
        """
        if self._ready:
            events = list(self._ready)
            self._ready.clear()
            return events
        data = await self._reader.read(limit)
        if not data:
            return None
        self.received += len(data)
        return self._take(data)

    async def until_cut(self, size: int) -> list[SseEvent]:
        """Return the events of the first ``size`` bytes, or of the whole response if shorter."""
        events: list[SseEvent] = []
        while self.received < size and not self.is_complete:
            some = await self.read(size - self.received)
            if some is None:
                break
            events.extend(some)
        return events

    async def all(self) -> list[SseEvent]:
        """Return all events until the response or the connection ends."""
        return [event async for event in self]

    async def take(self, count: int) -> list[SseEvent]:
        """Return the next ``count`` events, or fewer if the stream ends."""
        events: list[SseEvent] = []
        while len(events) < count and (self._ready or not self.is_complete):
            some = await self.read()
            if some is None:
                break
            events.extend(some)
        self._ready.extend(events[count:])
        return events[:count]

    def _take(self, data: bytes) -> list[SseEvent]:
        self._chunks += data
        if not self.status and not self._take_head():
            return []
        if "content-length" in self.headers or self.status == 204:
            return self._take_plain()
        body = b"".join(self._dechunked())
        if self.status != 200:
            self._body += body
            return []
        return self.parser.feed(body)

    def _take_head(self) -> bool:
        head, separator, rest = self._chunks.partition(b"\r\n\r\n")
        if not separator:
            return False
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split()[1])
        self.headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        self._chunks = rest
        return True

    def _take_plain(self) -> list[SseEvent]:
        body, self._chunks = self._chunks, b""
        self._body += body
        self.is_complete = len(self._body) >= int(self.headers.get("content-length", "0"))
        return self.parser.feed(body) if self.status == 200 else []

    def _dechunked(self) -> Iterator[bytes]:
        """Yield the received parts of chunks; like browsers, do not wait for whole chunks."""
        while self._chunks:
            if self._chunk_left:
                part = self._chunks[: self._chunk_left]
                self._chunks = self._chunks[len(part) :]
                self._chunk_left -= len(part)
                yield part
                continue
            # The line end of the previous chunk, and the size of the next.
            line, separator, rest = self._chunks.removeprefix(b"\r\n").partition(b"\r\n")
            if not separator:
                return
            self._chunks, self._chunk_left = rest, int(line, 16)
            if not self._chunk_left:
                self.is_complete = True
                return


def _request(
    method: str, path: str, last_event_id: str, headers: Mapping[str, str], body: Any
) -> bytes:
    fields = {"host": "127.0.0.1", "accept": "text/event-stream", **headers}
    if last_event_id:
        fields["last-event-id"] = last_event_id
    payload = b"" if body is None else msgspec.json.encode(body)
    if body is not None:
        fields |= {"content-type": "application/json", "content-length": str(len(payload))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + payload


def follow(
    port: int,
    execution: str,
    last_event_id: str = "",
    *,
    tenant: str = "default",
    receive_buffer: int | None = None,
) -> SseClient:
    """Return a connection to the stream of an execution."""
    return SseClient(
        port,
        f"/api/v1/sse/executions/{execution}/stream",
        last_event_id=last_event_id,
        headers={"x-organization-id": tenant},
        receive_buffer=receive_buffer,
    )


def places(events: Sequence[SseEvent]) -> list[tuple[str, int, int]]:
    """Return the type, sequence and index of each event of the log."""
    found = []
    for event in events:
        if event.is_logged:
            _, sequence, index = event.id.split("-")
            found.append((event.type, int(sequence), int(index)))
    return found
