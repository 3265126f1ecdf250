"""Control of the process that reads streams, and the events that it reads."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from benchmarks.order_process import OrderProcess, order_process
from benchmarks.reader_process import MARK
from benchmarks.stream_servers import StreamServer

_EVENT: Final = (
    '{"type":"step:log","data":{"node_id":"n","node_type":"transform","level":"info",'
    '"message":"%s"},"timestamp":"2024-01-15T10:30:00.000Z"}'
)
_EVENT_BYTES: Final = 230
_MAX_TRIES: Final = 20


class Taken(NamedTuple):
    """The result of one ``take``.

    Attributes:
        marks: number of events received, over all connections.
        seconds: time until the last of them.
        cpu: CPU seconds of the reader process.
        delays: seconds from publishing to arrival of each event, if timing is on.
    """

    marks: int
    seconds: float
    cpu: float
    delays: list[float]


class StreamReaders:
    """All readers of one server; they run in a separate process."""

    def __init__(self, server: StreamServer, readers: OrderProcess) -> None:
        self._server = server
        self._readers = readers
        self._connected = 0

    async def connect(self, count: int) -> None:
        """Add connections; return when each of them receives newly published events."""
        await self._readers.ask("connect", count)
        self._connected += count
        # A server may respond to a client before it has subscribed it, so publish until every
        # connection receives exactly one event.
        for _ in range(_MAX_TRIES):
            await self._server.publish([event()])
            if (await self.take(sys.maxsize, timeout=1)).marks == self._connected:
                return
        raise RuntimeError("the server does not deliver to all clients")

    async def take(self, marks: int, timeout: float = 15) -> Taken:
        """Read until ``marks`` events have arrived, or none for ``timeout`` seconds."""
        return Taken(**await self._readers.ask("take", marks, timeout))


@asynccontextmanager
async def stream_readers(
    server: StreamServer, *, timing: bool = False
) -> AsyncIterator[StreamReaders]:
    """Start the reader process of a server's stream; it has no connection yet."""
    options = ["--timing"] if timing else []
    place = (server.port, server.path)
    async with order_process("benchmarks.reader_process", *place, *options) as readers:
        yield StreamReaders(server, readers)


def event() -> bytes:
    """Return an event of typical size that contains the time at which it was made."""
    message = f"{MARK.decode()}@{time.time_ns()}@"
    padding = "x" * (_EVENT_BYTES - len(_EVENT) - len(message))
    return (_EVENT % (message + padding)).encode()
