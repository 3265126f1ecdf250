"""A gate between many clients and several API replicas, which cuts every client several times.

A client names itself in its URL, ``?run=<name>``, a parameter that streams ignore. Each connection
of a client goes to the next replica. The first connections are cut in the middle of an event, by
FIN and by RST in turn. In the end the gate ends all streams as HTTP requires, and answers 204 to
all clients.
"""

import asyncio
import contextlib
import re
import socket
import struct
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

CUTS: Final = 4
"""The cuts of each client."""

_HEAD: Final = re.compile(rb"^(GET|POST) (\S+) ")
_RUN: Final = re.compile(r"[?&]run=([^&]+)")
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_LAST_EVENT_ID: Final = re.compile(rb"(?i)\r\nlast-event-id: *([^\r\n]*)")
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_POSITION: Final = re.compile(rb"\nid: [^\n]*\n\n")
# A connection is cut after so many blocks with an id, and a part of the next block.
_BLOCKS: Final = 2
_PART_BYTES: Final = 40
_NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"


@dataclass(slots=True)
class GateRun:
    """The state of one client at the gate.

    Attributes:
        connections: the number of its connections.
        cuts: the number of cuts so far.
        positions: the number of blocks with an id that it was sent.
        statuses: of the answers so far.
        is_open: whether it reads a stream now.
    """

    connections: int = 0
    cuts: int = 0
    positions: int = 0
    statuses: list[int] = field(default_factory=list)
    is_open: bool = False


class ClientGate:
    """A running gate.

    Args:
        api_ports: the ports of the replicas.
        files: served by their path, with their content type.

    Attributes:
        runs: by the name of the client.
        changed: notified when something of a run changes.
    """

    def __init__(self, api_ports: Sequence[int], files: Mapping[str, tuple[str, bytes]]) -> None:
        self.runs: dict[str, GateRun] = defaultdict(GateRun)
        self.changed = asyncio.Condition()
        self._api_ports = api_ports
        self._files = files
        self._is_over = False
        self._open: set[asyncio.StreamWriter] = set()

    async def finish(self) -> None:
        """End all streams, and answer 204 from now on."""
        self._is_over = True
        for writer in tuple(self._open):
            writer.write(_LAST_CHUNK)
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._request(reader, writer):
                pass
        writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve a request; return whether another one may follow."""
        head = await reader.readuntil(b"\r\n\r\n")
        found, length = _HEAD.match(head), _LENGTH.search(head)
        body = await reader.readexactly(int(length.group(1))) if length else b""
        path = found.group(2).decode() if found else ""
        name = _RUN.search(path)
        if name is None:
            kind, content = self._files.get(path, ("text/plain", b""))
            writer.write(_whole(kind, content))
            return True
        run = self.runs[name.group(1)]
        if self._is_over:
            await self._note(run, 204)
            writer.write(_NO_CONTENT)
            return True
        port = self._api_ports[run.connections % len(self._api_ports)]
        run.connections += 1
        api = await asyncio.open_connection("127.0.0.1", port)
        if head.startswith(b"POST "):
            # Other requests must have known parameters only.
            head = head.replace(name.group(0).encode(), b"", 1)
        api[1].write(head + body)
        try:
            return await self._answer(run, api[0], writer)
        finally:
            api[1].close()

    async def _answer(
        self, run: GateRun, api: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await api.readuntil(b"\r\n\r\n")
        status = _STATUS.match(head)
        await self._note(run, int(status.group(1)) if status else 0)
        writer.write(head)
        if b"transfer-encoding" not in head.lower():
            length = _LENGTH.search(head)
            writer.write(await api.readexactly(int(length.group(1)) if length else 0))
            return True
        self._open.add(writer)
        run.is_open = True
        await self._notify()
        try:
            return await self._stream(run, api, writer)
        finally:
            run.is_open = False
            self._open.discard(writer)

    async def _stream(
        self, run: GateRun, api: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        sent, before = b"", run.positions
        while piece := await api.read(65536):
            cut_at = _cut_at(sent + piece) if run.cuts < CUTS else 0
            sent += piece
            if cut_at:
                writer.write(piece[: len(piece) - (len(sent) - cut_at)])
                run.cuts += 1
                await _cut(writer, by_reset=run.cuts % 2 == 0)
                return False
            writer.write(piece)
            run.positions = before + len(_POSITION.findall(sent))
            await self._notify()
            if sent.endswith(b"\r\n" + _LAST_CHUNK):
                return True
        return False

    async def _note(self, run: GateRun, status: int) -> None:
        run.statuses.append(status)
        await self._notify()

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def _cut_at(sent: bytes) -> int:
    """Return where to cut, in the middle of a block; 0 if not yet."""
    ends = [match.end() for match in _POSITION.finditer(sent)]
    if len(ends) < _BLOCKS:
        return 0
    for end in ends[_BLOCKS - 1 :]:
        at = end + _PART_BYTES
        if len(sent) > at and b"\n\n" not in sent[end:at]:
            return at
    return 0


async def _cut(writer: asyncio.StreamWriter, *, by_reset: bool) -> None:
    await writer.drain()
    if by_reset:
        channel = writer.get_extra_info("socket")
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    else:
        writer.close()


def _whole(kind: str, content: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


@contextlib.asynccontextmanager
async def open_gate(gate: ClientGate, count: int) -> AsyncIterator[list[int]]:
    """Listen on some ports; a browser opens only six connections to each."""
    servers = [await asyncio.start_server(gate.serve, "127.0.0.1", 0) for _ in range(count)]
    try:
        yield [server.sockets[0].getsockname()[1] for server in servers]
    finally:
        for server in servers:
            server.close()
