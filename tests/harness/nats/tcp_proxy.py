"""A TCP proxy between a client and NATS, which can drop or delay data, or fall silent."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit


class Proxy:
    """Forwards bytes, except those that a test makes it drop or hold.

    Args:
        server_url: the server; of several, the first.

    Attributes:
        url: the URL that clients connect to.
        loses: returns whether to drop a piece of data from the server.
        lost: set once a piece has been dropped.
    """

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url.split(",", maxsplit=1)[0])
        self.url = ""
        self.loses: Callable[[bytes], bool] = lambda _piece: False
        self.lost = asyncio.Event()
        self._holds = False
        self._is_silent = False
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._arrived = asyncio.Event()
        self._listener: asyncio.Server
        self._pumps: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def fall_silent(self) -> None:
        """Keep all connections open, old and new, but forward nothing: a half-open network."""
        self._is_silent = True

    def speak(self) -> None:
        """Serve new connections. Those that fell silent stay so."""
        self._is_silent = False

    def hold(self) -> None:
        """Hold what clients send until ``release``."""
        self._holds = True

    async def holding(self, text: bytes, times: int = 1) -> None:
        """Wait until the held data contains ``text`` ``times`` times."""
        while b"".join(piece for _, piece in self._held).count(text) < times:
            self._arrived.clear()
            await self._arrived.wait()

    def release(self) -> None:
        """Forward the held data, and everything after it."""
        self._holds = False
        for writer, piece in self._held:
            writer.write(piece)
        self._held.clear()

    async def cut(self) -> None:
        """Close all connections. Clients may connect again."""
        pumps = list(self._pumps)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(self._server.hostname, self._server.port)
        for pump in (self._to_server(reader, server[1]), self._to_client(server[0], writer)):
            task = asyncio.create_task(pump)
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _to_server(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while piece := await self._read(reader):
                if self._holds:
                    self._held.append((writer, piece))
                    self._arrived.set()
                else:
                    writer.write(piece)
                    await writer.drain()

    async def _to_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while piece := await self._read(reader):
                if self.loses(piece):
                    self.lost.set()
                    continue
                writer.write(piece)
                await writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        piece = await reader.read(65536)
        if self._is_silent:
            await asyncio.Event().wait()
        return piece
