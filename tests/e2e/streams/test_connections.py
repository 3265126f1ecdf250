"""Connections: admitted or sent back, served however slowly they read, and given back whole."""

import asyncio
import gc
import os
import re
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.in_process_api import InProcessApi, api_in_process
from harness.processes.required_tools import skip_or_fail
from harness.sse.client import SseClient, SseEvent, SseParser, follow, places
from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.fanout.runtime.load import Load
from tailrace_api.http.direct_writer import DirectWriter
from tailrace_api.http.plain_writer import PlainWriter
from tailrace_api.http.protocol import StreamProtocol
from tailrace_api.web import operation
from tailrace_api.web.request_turns import end_turn
from tailrace_shared.stores.execution_log import ExecutionLog


async def _begin(log: HandWrittenLog) -> None:
    await log.begin()
    await log.commit(written.step_started("n"))


def _objects() -> Counter[str]:
    kinds = (ClientConnection, DirectWriter, PlainWriter, StreamProtocol)
    return Counter(type(held).__name__ for held in gc.get_objects() if type(held) in kinds)


def _held(api: InProcessApi) -> dict[str, Any]:
    """Return what connections hold: objects, files, tasks, and what the hub counts."""
    gc.collect()
    return {
        "objects": dict(_objects()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
        "sizes": api.hub.sizes,
        "deadlines": len(api.hub.runtime.wheel),
        "tenants": len(api.hub.quota),
        "slow": api.hub.counts.slow,
        "backlog": api.hub.runtime.slow_clients.bytes,
        "requests": len(api.server.server_state.tasks),
    }


def _more(after: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Return the kinds of resources that have grown; some may have shrunk since."""
    return [
        kind
        for kind, held in after.items()
        if (Counter(held) - Counter(before[kind]) if kind == "objects" else held > before[kind])
    ]


async def test_a_thousand_clients_that_come_and_go_leave_nothing(
    idle_nats: NatsServer, nats_client: Client, direct: bool
) -> None:
    """New ones and such that resume, cut at any point, some of them not reading."""
    async with api_in_process(idle_nats.url, direct_writes=direct, heartbeat=0.2) as api:
        logs = [HandWrittenLog(nats_client) for _ in range(5)]
        for log in logs:
            await _begin(log)
        async with follow(api.port, logs[0].execution) as stream:
            await stream.take(4)
            position = stream.parser.last_event_id
        await api.settled()
        await api.sockets(0)
        before = _held(api)
        for turn in range(10):
            streams = [
                follow(
                    api.port,
                    logs[number % 5].execution,
                    position if number % 5 == 0 and turn % 2 else "",
                    receive_buffer=4096 if number % 3 else None,
                )
                for number in range(100)
            ]
            for stream in streams:
                await stream.__aenter__()
            for stream in streams[::2]:
                await stream.take(1)
            for log in logs:
                await log.commit(written.step_log("n", "x" * 30_000))
            for stream in streams[::3]:
                await stream.until_cut(400 + turn * 100)
            for stream in streams:
                await stream.__aexit__(None, None, None)
        async with asyncio.timeout(60):
            await api.settled()
            await api.sockets(0)
            while _more(after := _held(api), before):  # noqa: ASYNC110  # no event for these
                await asyncio.sleep(0.05)
        assert not _more(after, before)
        counts = api.hub.counts
        assert counts.opened == sum(counts.closed.values()) > 900


@pytest.mark.parametrize("direct", [True])
async def test_a_stream_is_freed_without_the_garbage_collector(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Whether its client leaves, or it ends: full collections are rare, and stop all streams."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await _begin(log)
        gc.collect()  # what earlier tests have left
        gc.disable()
        try:
            async with follow(api.port, log.execution) as ended:
                for _ in range(20):
                    async with follow(api.port, log.execution) as stream:
                        await stream.take(4)
                await log.complete()
                await ended.all()
            await api.settled()
            await api.sockets(0)
            async with asyncio.timeout(60):
                while _objects() & Counter(ClientConnection=1, DirectWriter=1):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()


async def test_a_client_that_reads_byte_by_byte_is_served(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """It gets everything at its own rate, and delays no other client."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await _begin(log)
        async with (
            follow(api.port, log.execution, receive_buffer=4096) as slow,
            follow(api.port, log.execution) as other,
        ):
            await other.take(4)
            events = []
            for number in range(20):
                await log.commit(written.step_log("n", f"{number}"))
                async with asyncio.timeout(60):
                    await other.take(1)
                for _ in range(50):
                    events += await slow.read(1) or []
            await log.complete()
            while (some := await slow.read(1)) is not None and not slow.is_complete:
                events += some
            events += some or []
        assert places(events) == log.written


async def test_a_busy_process_refuses_the_tenant_with_most_streams(
    idle_nats: NatsServer,
    nats_client: Client,
    direct: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client receives the reason; other tenants open streams, and open ones go on."""
    async with api_in_process(idle_nats.url, retry=1.0, direct_writes=direct) as api:
        ours, theirs = HandWrittenLog(nats_client, "ours"), HandWrittenLog(nats_client, "theirs")
        for log in (ours, theirs):
            await _begin(log)
        async with follow(api.port, ours.execution, tenant="ours") as first:
            await first.take(4)
            monkeypatch.setattr(Load, "is_high", property(lambda _load: True))
            async with follow(api.port, ours.execution, tenant="ours") as second:
                (refusal,) = await second.all()
            assert (refusal.type, second.status) == ("stream:refused", 200)
            assert refusal.json() == {"reason": "busy", "retry_ms": second.parser.retry}
            async with follow(api.port, theirs.execution, tenant="theirs") as third:
                await third.take(4)
            await ours.step("n")
            assert len(await first.take(2)) == 2
        assert api.hub.counts.refused == {"busy": 1}


async def test_beyond_a_limit_new_clients_get_a_retry(
    idle_nats: NatsServer, nats_client: Client, direct: bool
) -> None:
    """Open streams stay; when one closes, a new one is accepted."""
    limits = {"max_streams": 3, "max_tenant_streams": 2, "direct_writes": direct}
    async with api_in_process(idle_nats.url, retry=1.0, **limits) as api:
        ours, theirs = HandWrittenLog(nats_client, "ours"), HandWrittenLog(nats_client, "theirs")
        for log in (ours, theirs):
            await _begin(log)

        def open_(log: HandWrittenLog) -> SseClient:
            return follow(api.port, log.execution, tenant=log.tenant)

        async def refused(log: HandWrittenLog) -> None:
            async with open_(log) as stream:
                (refusal,) = await stream.all()
                assert refusal.type == "stream:refused"
                assert refusal.json() == {
                    "reason": "full",
                    "retry_ms": stream.parser.retry,
                    "detail": "the limit TAILRACE_MAX_STREAMS is reached",
                }
                assert stream.status == 200
                assert stream.headers["content-type"] == "text/event-stream"
                assert stream.headers["connection"] == "close"
                assert stream.parser.retry is not None
                assert 500 <= stream.parser.retry <= 1500

        async with open_(ours) as first, open_(theirs) as third:
            async with open_(ours) as second:
                for stream in (first, second, third):
                    await stream.take(4)
                await refused(ours)
                await refused(theirs)
                assert api.hub.counts.refused == {"full": 2}
            await api.settled(2, 2, 2)
            async with open_(ours) as second:
                assert len(await second.take(4)) == 4
            await ours.step("a")
            assert len(await first.take(2)) == 2


async def test_a_tenant_has_a_limit_of_its_own(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Others are served."""
    async with api_in_process(idle_nats.url, max_tenant_streams=1, direct_writes=direct) as api:
        await _begin(log)
        async with follow(api.port, log.execution) as first:
            await first.take(4)
            async with follow(api.port, log.execution) as second:
                (refusal,) = await second.all()
                assert refusal.json()["reason"] == "tenant_full"
            assert api.hub.counts.refused == {"tenant_full": 1}


class _HeldReads:
    """Reads of one kind that wait until they are let through.

    Attributes:
        begun: how many there were.
    """

    def __init__(self, kind: str, patch: pytest.MonkeyPatch) -> None:
        self.begun = 0
        self._may_go = asyncio.Event()
        read = getattr(ExecutionLog, kind)

        async def held(log: ExecutionLog, *arguments: Any) -> Any:
            self.begun += 1
            await self._may_go.wait()
            return await read(log, *arguments)

        patch.setattr(ExecutionLog, kind, held)

    async def wait(self) -> None:
        """Wait until one read has begun, and all pending requests have been handled."""
        while True:
            await asyncio.sleep(0.01)
            if self.begun:
                return

    def let_go(self) -> None:
        """Let them through, and all that follow."""
        self._may_go.set()


async def test_clients_that_come_together_share_their_reads(
    idle_nats: NatsServer, log: HandWrittenLog, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """Three hundred with the same id, to a replica that has no topic yet: one read of each kind."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await _begin(log)
        async with follow(api.port, log.execution) as stream:
            await stream.take(4)
        await api.settled()
        for _ in range(100):
            await log.commit(written.step_log("n", "x" * 100))
        ids, pages = _HeldReads("find_next", monkeypatch), _HeldReads("page", monkeypatch)
        begun: list[Any] = []

        def begin(scope: Any) -> None:
            begun.append(scope)
            end_turn(scope)

        monkeypatch.setattr(operation, "end_turn", begin)
        streams = [follow(api.port, log.execution, stream.parser.last_event_id) for _ in range(300)]
        await asyncio.gather(*(stream.__aenter__() for stream in streams))
        while len(begun) < 300:  # noqa: ASYNC110  # the product has no event for it
            await asyncio.sleep(0.01)
        await ids.wait()
        assert ids.begun == 1
        ids.let_go()
        await api.settled(300)
        await pages.wait()
        assert pages.begun == 1
        assert api.hub.counts.shared_reads >= 299
        pages.let_go()
        await asyncio.gather(*(stream.take(101) for stream in streams))
        assert api.hub.counts.shared_reads >= 2 * 299
        await log.complete()
        ends = await asyncio.gather(*(stream.all() for stream in streams))
        assert all(places(end) == log.written[-1:] for end in ends)
        for stream in streams:
            await stream.__aexit__(None, None, None)


async def test_an_old_stream_ends_and_resumes_on_another_replica(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """The response is complete and has a retry delay; no event is lost."""
    async with api_in_process(
        idle_nats.url, max_stream_age=0.4, retry=0.02, direct_writes=direct
    ) as api:
        await _begin(log)
        events: list[SseEvent] = []
        last_event_id, streams = "", 0
        for number in range(3):
            # One is enough, unless it reached its maximum age before it had sent everything.
            while len(places(events)) < len(log.written):
                async with follow(api.port, log.execution, last_event_id) as stream:
                    events += await stream.all()
                    assert stream.is_complete
                    assert stream.parser.retry is not None
                last_event_id = stream.parser.last_event_id or last_event_id
                streams += 1
            assert places(events) == log.written
            await log.commit(written.step_log("n", f"{number}"))
        await api.settled()
        assert api.hub.counts.closed == {"aged": streams}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_the_stream_is_equal_for_all_http_versions(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool, version: str
) -> None:
    """HTTP/1.0, and a client that says more than it should: it is not answered, and not harmed."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await _begin(log)
        await log.complete()
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        path = f"/api/v1/sse/executions/{log.execution}/stream"
        writer.write(f"GET {path} HTTP/{version}\r\nhost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if direct:
            # uvicorn itself would answer this, in the middle of the stream.
            writer.write(b"what else I wanted to say")
        assert head.startswith(b"HTTP/1.1 200")
        body = b""
        # Under HTTP/1.0 the end of the connection is the end of the body.
        while not body.endswith(b"0\r\n\r\n") and (piece := await reader.read(65536)):
            body += piece
        assert body.endswith(b"0\r\n\r\n") == (version == "1.1")
        plain = re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", body)
        assert places(SseParser().feed(plain)) == log.written
        writer.close()


async def test_pipelined_requests_are_answered_one_after_the_other_or_not_at_all(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """A stream whose connection holds a second request keeps it for that one."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await _begin(log)
        await log.complete()
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        path = f"/api/v1/sse/executions/{log.execution}/stream"
        first = f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
        writer.write((first + "GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").encode())
        async with asyncio.timeout(60):
            await reader.readuntil(b"0\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_a_stopping_process_is_there_until_balancers_have_noticed(
    idle_nats: NatsServer, log: HandWrittenLog, tmp_path: Any, direct: bool
) -> None:
    """It is not ready; open streams go on, new ones get a retry, responses close."""
    settings = {"drain_delay": "10m", "direct_writes": str(direct).lower()}
    with ApiProcess(idle_nats.url, tmp_path, **settings) as api:
        await _begin(log)
        async with (
            follow(api.port, log.execution) as stream,
            httpx.AsyncClient(base_url=api.url, timeout=60) as http,
        ):
            await stream.take(4)
            assert (await http.get("/readyz")).status_code == 200
            os.kill(api.pid, signal.SIGTERM)
            while (answer := await http.get("/readyz")).status_code == 200:
                assert "connection" not in answer.headers
            answer = await http.get("/healthz")
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            await log.step("a")
            assert len(await stream.take(2)) == 2
            async with follow(api.port, log.execution) as late:
                (refusal,) = await late.all()
                assert refusal.json()["reason"] == "draining"
                assert (late.status, late.is_complete) == (200, True)
                assert late.headers["connection"] == "close"


async def test_a_stopping_process_ends_when_balancers_have_had_their_time(
    idle_nats: NatsServer, log: HandWrittenLog, tmp_path: Any, direct: bool
) -> None:
    """Then its streams end in good order, and so does it."""
    settings = {"drain_delay": "100ms", "direct_writes": str(direct).lower()}
    with ApiProcess(idle_nats.url, tmp_path, drain_timeout="10m", **settings) as api:
        await _begin(log)
        async with follow(api.port, log.execution) as stream:
            await stream.take(4)
            stopping = asyncio.create_task(asyncio.to_thread(api.stop))
            assert await stream.all() == []
            assert stream.is_complete
        assert await stopping == 0


def _iptables(action: str, port: int) -> bool:
    """Have the kernel lose what goes to a port; return whether it lets us."""
    rule = [action, "INPUT", "-p", "tcp", "-i", "lo", "--dport", str(port), "-j", "DROP"]
    try:
        return subprocess.run(["iptables", "-w", *rule], check=False).returncode == 0
    except FileNotFoundError:
        return False


async def test_a_client_that_vanished_is_noticed_by_its_silence(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Its host lost power: it says no good-bye, and acknowledges no heartbeat."""
    async with api_in_process(
        idle_nats.url, heartbeat=0.2, stall_timeout=1.0, direct_writes=direct
    ) as api:
        await _begin(log)
        async with follow(api.port, log.execution) as stream:
            await stream.take(4)
            port = stream.local_port
            if not _iptables("-A", port):
                skip_or_fail(
                    "iptables, or the right to use it,", "apt-get install iptables, as root"
                )
            try:
                async with asyncio.timeout(60):
                    await api.settled()
            finally:
                assert _iptables("-D", port)


def _unsent(api: InProcessApi) -> int:
    """Return how many bytes of answers the kernel has not taken yet."""
    protocols = [p for p in api.server.server_state.connections if isinstance(p, StreamProtocol)]
    return sum(protocol.transport.get_write_buffer_size() for protocol in protocols)


async def test_a_stream_may_follow_an_answer_that_was_not_taken_yet(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """On the same connection, the rest of one response precedes the next."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await _begin(log)
        for number in range(100):
            await log.commit(written.step_log("n", f"{number}" + "x" * 100_000))
        await log.complete()
        stream = SseClient(
            api.port,
            f"/api/v1/executions/{log.execution}?include_logs=true",
            receive_buffer=4096,
        )
        async with stream:
            # The whole answer is written, most of it lies in the server.
            async with asyncio.timeout(60):
                while not _unsent(api):  # noqa: ASYNC110  # a transport tells its protocol only
                    await asyncio.sleep(0.01)
            path = f"/api/v1/sse/executions/{log.execution}/stream"
            stream._writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            while not api.server.server_state.tasks:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)
            reader = stream._reader
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length.group(1)))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            body = b""
            while not body.endswith(b"\r\n0\r\n\r\n"):
                body += await reader.read(65536)
        plain = re.sub(rb"(?:^|\r\n)[0-9a-f]+\r\n", b"", body)
        assert places(SseParser().feed(plain)) == log.written
        await api.settled()
