"""A gateway between HTTP clients and API replicas, which cuts a connection at a chosen text.

It records the requests for streams. A browser sees it as the origin of the API, so it also serves
the page. Each connection goes to the next replica in turn.
"""

import asyncio
import contextlib
import itertools
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

_REQUEST: Final = re.compile(rb"^(?:GET|POST) (\S+) ")
_STREAM: Final = re.compile(r"[/-](?:stream|events)(?:\?|$)")
_LENGTH: Final = re.compile(rb"(?i)^content-length: *(\d+)", re.MULTILINE)
_LAST_EVENT_ID: Final = re.compile(rb"(?i)^last-event-id: *([^\r\n]*)", re.MULTILINE)
# A response may follow the body of another; no body in these tests contains such a line.
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class StreamRequest(NamedTuple):
    """A request for a stream."""

    path: str
    last_event_id: str


class CuttingGateway:
    """A running gateway.

    Attributes:
        stream_requests: the requests for streams so far.
        statuses: of the responses of the API so far.
        page: the HTML that it serves at ``/``.
        folders: folders that it serves, by the first part of the path: ``/client/index.js``.
        cut_at: text after which it cuts a connection, once.
        refuses_streams: whether it closes connections that request a stream.
    """

    def __init__(self, *api_ports: int) -> None:
        self.port = 0
        self.stream_requests: list[StreamRequest] = []
        self.statuses: list[int] = []
        self.page = ""
        self.folders: dict[str, Path] = {}
        self.cut_at = b""
        self.refuses_streams = False
        self._clients: set[asyncio.StreamWriter] = set()
        self._api_ports = itertools.cycle(api_ports)
        self._requested = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    async def await_stream_requests(self, count: int) -> None:
        """Wait until there have been ``count`` requests for streams."""
        async with self._requested:
            await self._requested.wait_for(lambda: len(self.stream_requests) >= count)

    def cut_all(self) -> None:
        """Cut all connections."""
        for writer in self._clients:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection of a client."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            api = await asyncio.open_connection("127.0.0.1", next(self._api_ports))
            answering = asyncio.create_task(self._answers(api[0], writer))
            self._clients.add(writer)
            try:
                while True:
                    await self._request(reader, writer, api[1])
            finally:
                self._clients.discard(writer)
                answering.cancel()
                api[1].close()
                writer.close()

    async def _request(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        api: asyncio.StreamWriter,
    ) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = _REQUEST.match(head)
        path = found.group(1).decode() if found else ""
        if file := self._file(path):
            media_type, content = file
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: %b; charset=utf-8\r\n"
                b"Content-Length: %d\r\n\r\n" % (media_type, len(content)) + content
            )
            return
        if _STREAM.search(path):
            last = _LAST_EVENT_ID.search(head)
            async with self._requested:
                self.stream_requests.append(
                    StreamRequest(path, last.group(1).decode() if last else "")
                )
                self._requested.notify_all()
            if self.refuses_streams:
                raise ConnectionAbortedError
        length = _LENGTH.search(head)
        api.write(head + (await reader.readexactly(int(length.group(1))) if length else b""))

    def _file(self, path: str) -> tuple[bytes, bytes] | None:
        path = path.partition("?")[0]
        if path == "/":
            return b"text/html", self.page.encode()
        folder, _, name = path.removeprefix("/").partition("/")
        if folder not in self.folders:
            return None
        return b"text/javascript", (self.folders[folder] / name).read_bytes()

    async def _answers(self, api: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        answers = 0
        with contextlib.suppress(OSError):
            while piece := await api.read(65536):
                seen += piece
                # Search everything received so far: a head may arrive in pieces.
                statuses = [int(status) for status in _STATUS.findall(seen)]
                self.statuses += statuses[answers:]
                answers = len(statuses)
                if self.cut_at and self.cut_at in seen:
                    beyond = len(seen.partition(self.cut_at)[2])
                    self.cut_at = b""
                    writer.write(piece[: len(piece) - beyond])
                    break
                writer.write(piece)
        writer.close()


@contextlib.asynccontextmanager
async def cutting_gateway(*api_ports: int) -> AsyncIterator[CuttingGateway]:
    """Start a gateway in front of some API replicas."""
    opened = CuttingGateway(*api_ports)
    server = await asyncio.start_server(opened.serve, "127.0.0.1", 0)
    opened.port = server.sockets[0].getsockname()[1]
    # Not `async with`, which would wait for the connections that a browser keeps open.
    try:
        yield opened
    finally:
        server.close()
