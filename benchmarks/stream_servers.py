"""The servers whose streams the benchmarks measure, and how to publish an event on each.

Tailrace and sse-starlette receive events as republished commits from a dedicated NATS server, the
others by POST. Each serves from one process; those in Go use all cores.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from abc import ABC, abstractmethod
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import nats
from nats.aio.client import Client

from benchmarks.go_servers import built
from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.http.nginx import Nginx, nginx_binary
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.polling import until
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

_MERCURE_STREAM: Final = "/.well-known/mercure?topic=bench"
_CENTRIFUGO_STREAM: Final = "/connection/uni_sse?cf_connect=" + quote('{"subs":{"bench":{}}}')
_CENTRIFUGO: Final = {
    "client": {"insecure": True},
    "http_api": {"insecure": True},
    "uni_sse": {"enabled": True},
    "channel": {"without_namespace": {"allow_subscribe_for_client": True}},
    "log": {"level": "none"},
}


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
    """A server that receives events by POST.

    Args:
        post_to: the path.
        body: makes the body of an event.
    """

    def __init__(
        self,
        pid: int,
        port: int,
        path: str,
        writer: asyncio.StreamWriter,
        post_to: str = "/publish",
        body: Callable[[bytes], bytes] = bytes,
    ) -> None:
        super().__init__(pid, port, path)
        self._writer = writer
        self._post_to = post_to
        self._body = body

    async def publish(self, events: Sequence[bytes]) -> None:
        for event in events:
            body = self._body(event)
            head = (
                f"POST {self._post_to} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                f"X-EventSource-Event: step:log\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            self._writer.write(head.encode() + body)
        await self._writer.drain()


@asynccontextmanager
async def tailrace(folder: Path, **settings: str) -> AsyncIterator[StreamServer]:
    """Run one API replica with settings, and a log that it streams."""
    async with _nats(folder) as (server, client):
        with ApiProcess(server.url, folder, log_level="warning", **settings) as api:
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
        async with _posting(port) as writer:
            yield _PostFedServer(nginx.worker_pid, port, "/stream", writer)


@asynccontextmanager
async def _mercure(folder: Path) -> AsyncIterator[StreamServer]:
    port = free_port()
    async with _program("mercure", folder, port, str(port)) as pid, _posting(port) as writer:
        yield _PostFedServer(pid, port, _MERCURE_STREAM, writer)


@asynccontextmanager
async def _centrifugo(folder: Path) -> AsyncIterator[StreamServer]:
    port, file = free_port(), folder / "centrifugo.json"
    http_server = {"address": "127.0.0.1", "port": port}
    file.write_text(json.dumps({**_CENTRIFUGO, "http_server": http_server}))
    async with (
        _program("centrifugo", folder, port, "--config", str(file)) as pid,
        _posting(port) as writer,
    ):
        yield _PostFedServer(
            pid,
            port,
            _CENTRIFUGO_STREAM,
            writer,
            "/api/publish",
            lambda event: b'{"channel":"bench","data":%b}' % event,
        )


@asynccontextmanager
async def _program(name: str, folder: Path, port: int, *arguments: str) -> AsyncIterator[int]:
    """Run a server written in Go; yield its process id once it listens on its port."""
    with (folder / f"{name}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(built(name)), *arguments, stdout=log, stderr=log
        )
    try:
        await until(lambda: _accepts(port))
        yield process.pid
    finally:
        process.kill()
        await process.wait()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _posting(port: int) -> AsyncIterator[asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    # Unread responses would block the next requests.
    answers = asyncio.create_task(_discard(reader))
    yield writer
    writer.close()
    await answers


async def _discard(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65536):
            pass


SERVERS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[StreamServer]]]] = {
    "tailrace": tailrace,
    "sse-starlette": _sse_starlette,
    "nchan": _nchan,
    "mercure": _mercure,
    "centrifugo": _centrifugo,
}
PEERS: Final = [name for name in SERVERS if name != "tailrace"]


def is_missing(server: str) -> bool:
    """Return whether a server is not installed."""
    if server == "sse-starlette":
        return importlib.util.find_spec("sse_starlette") is None
    if server == "nchan":
        return nginx_binary() is None or not any(map(Path.exists, _NCHAN_MODULES))
    return server in ("mercure", "centrifugo") and built(server) is None
