"""Open streams of one execution, without reading them any further than their heads."""

import asyncio
from typing import Final, Self

_AT_ONCE: Final = 50
_RETRY_S: Final = 1.0


class HeldStreams:
    """Opens streams through one address, and opens each again when it ends.

    Args:
        host: the address.
        port: its port.
        path: the path of the stream.
        count: the number of streams.

    Attributes:
        open: the number of streams that are open now.
    """

    def __init__(self, host: str, port: int, path: str, count: int) -> None:
        self.open = 0
        self._target = (host, port)
        self._request = (
            f"GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n".encode()
        )
        self._count = count
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._all = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._hold()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def all_open(self) -> None:
        """Wait until all were open at the same time."""
        await self._all.wait()

    async def _hold(self) -> None:
        while True:
            try:
                await self._hold_once()
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(_RETRY_S)

    async def _hold_once(self) -> None:
        async with self._slots:
            reader, writer = await asyncio.open_connection(*self._target)
            try:
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
            except BaseException:
                writer.close()
                raise
        try:
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(head.decode("latin-1"))
            await self._read(reader)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        self.open += 1
        if self.open == self._count:
            self._all.set()
        try:
            while await reader.read(65536):
                pass
        finally:
            self.open -= 1
