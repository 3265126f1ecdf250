"""The servers whose streams the benchmarks measure, and how to publish an event on each.

Tailrace and sse-starlette receive events as republished commits from a dedicated NATS server, nchan
by POST. Each serves from one process.
"""

import asyncio
import contextlib
import importlib.util
import os
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import nats
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.http.nginx import Nginx, nginx_binary
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.ports import free_port
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import Subjects

_EXECUTION: Final = "bench"
_NCHAN_MODULES: Final = (
    Path("/usr/lib/nginx/modules/ngx_nchan_module.so"),
    Path("/usr/lib64/nginx/modules/ngx_nchan_module.so"),
)
_NCHAN: Final = """
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        keepalive_requests 1000000;
        location = /publish {{
            nchan_publisher;
            nchan_channel_id bench;
            nchan_message_buffer_length 10000;
        }}
        location = /stream {{
            nchan_subscriber eventsource;
            nchan_channel_id bench;
            nchan_subscriber_first_message newest;
        }}
    }}
"""


class StreamServer(ABC):
    """A running server.

    Attributes:
        pid: the process that serves the streams.
        port: the port that it listens on.
    """

    def __init__(self, pid: int, port: int, path: str) -> None:
        self.pid = pid
        self.port = port
        self.path = path

    @abstractmethod
    async def publish(self, events: Sequence[bytes]) -> None:
        """Publish events one by one, without a pause."""


class _NatsFedServer(StreamServer):
    def __init__(self, pid: int, port: int, path: str, client: Client) -> None:
        super().__init__(pid, port, path)
        self._client = client

    async def publish(self, events: Sequence[bytes]) -> None:
        subject = Subjects().log("default", _EXECUTION)
        for event in events:
            await self._client.publish(subject, b"[" + event + b"]")
        await self._client.flush()


class _PostFedServer(StreamServer):
    def __init__(self, pid: int, port: int, writer: asyncio.StreamWriter) -> None:
        super().__init__(pid, port, "/stream")
        self._writer = writer

    async def publish(self, events: Sequence[bytes]) -> None:
        for event in events:
            head = (
                "POST /publish HTTP/1.1\r\nHost: 127.0.0.1\r\nX-EventSource-Event: step:log\r\n"
                f"Content-Length: {len(event)}\r\n\r\n"
            )
            self._writer.write(head.encode() + event)
        await self._writer.drain()


@asynccontextmanager
async def _tailrace(folder: Path) -> AsyncIterator[StreamServer]:
    async with _nats(folder) as (server, client):
        with ApiProcess(server.url, folder, log_level="warning") as api:
            log = HandWrittenLog(client, execution=_EXECUTION)
            await log.begin()
            await log.commit(written.step_started("n"))
            path = f"/api/v1/sse/executions/{_EXECUTION}/stream"
            yield _NatsFedServer(api.pid, api.port, path, client)


@asynccontextmanager
async def _sse_starlette(folder: Path) -> AsyncIterator[StreamServer]:
    async with _nats(folder) as (server, client):
        subject = Subjects().live("default", _EXECUTION)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "benchmarks.sse_starlette_app"),
            env={**os.environ, "NATS_URL": server.url, "SUBJECT": subject},
            stdout=PIPE,
        )
        assert process.stdout is not None
        try:
            port = int(await process.stdout.readline())
            yield _NatsFedServer(process.pid, port, "/", client)
        finally:
            process.kill()
            await process.communicate()


@asynccontextmanager
async def _nats(folder: Path) -> AsyncIterator[tuple[NatsServer, Client]]:
    with NatsServer(folder / "nats") as server:
        client = await nats.connect(server.url)
        await ensure(JetStream(client), topology(ApiSettings()))
        yield server, client
        await client.close()


@asynccontextmanager
async def _nchan(folder: Path) -> AsyncIterator[StreamServer]:
    port = free_port()
    module = next(filter(Path.exists, _NCHAN_MODULES))
    with Nginx(port, _NCHAN.format(port=port), folder, f"load_module {module};") as nginx:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        # Unread responses would block the next requests.
        answers = asyncio.create_task(_discard(reader))
        yield _PostFedServer(nginx.worker_pid, port, writer)
        writer.close()
        await answers


async def _discard(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


SERVERS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[StreamServer]]]] = {
    "tailrace": _tailrace,
    "sse-starlette": _sse_starlette,
    "nchan": _nchan,
}
PEERS: Final = [name for name in SERVERS if name != "tailrace"]


def is_missing(server: str) -> bool:
    """Return whether a server is not installed."""
    if server == "sse-starlette":
        return importlib.util.find_spec("sse_starlette") is None
    if server == "nchan":
        return nginx_binary() is None or not any(map(Path.exists, _NCHAN_MODULES))
    return False
