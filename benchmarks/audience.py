"""The readers' process, as a benchmark sees it, and the events that it reads."""

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from benchmarks.readers import MARK
from benchmarks.stream_servers import StreamServer

_EVENT: Final = (
    '{"type":"step:log","data":{"node_id":"n","node_type":"transform","level":"info",'
    '"message":"%s"},"timestamp":"2024-01-15T10:30:00.000Z"}'
)
_EVENT_BYTES: Final = 230
_ATTEMPTS: Final = 20
_LONGEST_ANSWER: Final = 256 * 1024 * 1024


class Taken(NamedTuple):
    """What readers have read.

    Attributes:
        marks: how many events, at all connections together.
        seconds: until the last of them.
        cpu: CPU seconds of the readers' process.
        delays: from when an event was published to when it came, if they were asked to time it.
    """

    marks: int
    seconds: float
    cpu: float
    delays: list[float]


class Audience:
    """Readers in a process of their own."""

    def __init__(self, server: StreamServer, process: Process) -> None:
        self._server = server
        self._process = process
        self._connected = 0

    async def connect(self, count: int) -> None:
        """Add connections; returns when all of them get what is published from now on."""
        await self._ask("connect", count)
        self._connected += count
        # A server may answer a client before it has subscribed it, so this goes on until all hear
        # one event, and nobody hears more.
        for _ in range(_ATTEMPTS):
            await self._server.publish([event()])
            if (await self.take(sys.maxsize, patience=1)).marks == self._connected:
                return
        raise RuntimeError("the server does not serve all clients")

    async def take(self, marks: int, patience: float = 15) -> Taken:
        """Read until so many events have come, or for so long none."""
        return Taken(**await self._ask("take", marks, patience))

    async def _ask(self, order: str, *details: float) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = " ".join([order, *map(str, details)])
        self._process.stdin.write(f"{line}\n".encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the readers have ended")
        return json.loads(answer)


@asynccontextmanager
async def audience(server: StreamServer, *, timing: bool = False) -> AsyncIterator[Audience]:
    """Start readers of a server's stream; none of them is connected yet."""
    options = ["--timing"] if timing else []
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.readers", str(server.port), server.path, *options),
        stdin=PIPE,
        stdout=PIPE,
        limit=_LONGEST_ANSWER,
    )
    try:
        yield Audience(server, process)
    finally:
        process.kill()
        await process.communicate()


def event() -> bytes:
    """Return an event of typical size, which says when it was made."""
    message = f"{MARK.decode()}@{time.time_ns()}@"
    padding = "x" * (_EVENT_BYTES - len(_EVENT) - len(message))
    return (_EVENT % (message + padding)).encode()
