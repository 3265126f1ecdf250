"""Faults: messages lost, NATS gone for a while, clients that stall or leave, a process that stops.

After any fault, a client's union of events stays the log, and the process gives back what it
held.
"""

import asyncio
import contextlib
import gc
import random
import re
from pathlib import Path

import httpx
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import SlowConsumerError

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.in_process_api import api_in_process
from harness.sse.client import SseEvent, follow, places
from tailrace_api.fanout.topics import live_subscription
from tailrace_api.fanout.topics.execution_topic import ExecutionTopic
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.subjects import Subjects


async def _write(log: HandWrittenLog, commits: int) -> None:
    for number in range(commits):
        await log.commit(written.step_progress("n", number), written.step_log("n", "x" * 100))


@pytest.mark.parametrize("lost", [0.1, 0.5, 1.0])
async def test_live_messages_that_get_lost_are_read_from_the_log(
    idle_nats: NatsServer,
    log: HandWrittenLog,
    monkeypatch: pytest.MonkeyPatch,
    lost: float,
    direct: bool,
) -> None:
    """Some, half, or all of them, the last one included."""
    dice = random.Random(lost)
    receive = live_subscription._Subject.receive

    async def lossy(feed: live_subscription._Subject, message: Msg) -> None:
        if dice.random() >= lost:
            await receive(feed, message)

    monkeypatch.setattr(live_subscription._Subject, "receive", lossy)
    async with api_in_process(idle_nats.url, direct_writes=direct, heartbeat=0.2) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution) as stream:
            _, *events = await stream.take(4)
            await _write(log, 50)
            await log.complete()
            events += await stream.all()
            assert stream.is_complete
        assert places(events) == log.written


async def test_duplicate_live_messages_are_shown_once(
    idle_nats: NatsServer, log: HandWrittenLog, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """Late messages are not shown a second time either."""
    receive = live_subscription._Subject.receive
    earlier: list[Msg] = []

    async def repeating(feed: live_subscription._Subject, message: Msg) -> None:
        earlier.append(message)
        for again in (message, *earlier[-3:]):
            await receive(feed, again)

    monkeypatch.setattr(live_subscription._Subject, "receive", repeating)
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution) as stream:
            _, *events = await stream.take(4)
            await _write(log, 20)
            await log.complete()
            events += await stream.all()
        assert places(events) == log.written


async def test_foreign_messages_are_skipped(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Later legible commits are shown, in history and live."""
    jetstream, subject = JetStream(log.client), Subjects().log(log.tenant, log.execution)
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await log.begin()
        log.last = await jetstream.publish(subject, b"garbage")
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution) as stream:
            _, *events = await stream.take(4)
            await api.settled(1, 1, 1)
            log.last = await jetstream.publish(subject, b'[{"no": "type"}]')
            await log.complete()
            events += await stream.all()
        assert places(events) == log.written


async def test_a_topic_that_fails_ends_its_streams(
    idle_nats: NatsServer, log: HandWrittenLog, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """Better to come back than to wait for what will never come."""

    async def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(ExecutionTopic, "_catch_up", fail)
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await log.begin()
        async with follow(api.port, log.execution) as stream:
            _, *events = await stream.all()
            assert stream.is_complete
        # What a replica that lags does not have yet comes after the reconnect.
        assert places(events) == log.written[: len(events)]
        await api.settled()


async def test_a_slow_consumer_error_requests_a_reconcile(
    idle_nats: NatsServer, log: HandWrittenLog, monkeypatch: pytest.MonkeyPatch, direct: bool
) -> None:
    """NATS dropped messages on the way to this process: nothing is waited for."""
    monkeypatch.setattr(live_subscription, "_PENDING_BYTES", 4096)
    blocked = asyncio.Event()
    receive = live_subscription._Subject.receive

    async def slow(feed: live_subscription._Subject, message: Msg) -> None:
        await blocked.wait()
        await receive(feed, message)

    monkeypatch.setattr(live_subscription._Subject, "receive", slow)
    async with api_in_process(idle_nats.url, direct_writes=direct, heartbeat=60.0) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution) as stream:
            _, *events = await stream.take(4)
            await api.settled(1, 1, 1)
            await _write(log, 50)
            await log.complete()
            events += await stream.all()  # while the subscription still stands still
            blocked.set()
        assert places(events) == log.written


def test_slow_consumer_errors_are_what_nats_py_reports() -> None:
    """The test above relies on the client library's own report."""
    assert issubclass(SlowConsumerError, nats.errors.Error)


async def _history_is_read(port: int, count: int) -> None:
    """Wait until so many streams have read all that was before them."""
    line = f"\ntailrace_api_replay_events_count {count}"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        while line not in (await http.get("/metrics")).text:  # noqa: ASYNC110  # a counter
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_nats_restarts_under_open_streams(
    nats_server: NatsServer, tmp_path: Path, end: str, direct: bool
) -> None:
    """Commits that come while the API is not connected yet arrive on the same connection."""
    with ApiProcess(
        nats_server.url, tmp_path, direct_writes=str(direct).lower(), heartbeat="10m"
    ) as api:
        log = HandWrittenLog(await nats.connect(nats_server.url))
        await log.begin()
        await log.commit(written.step_started("n"))
        streams = [follow(api.port, log.execution) for _ in range(5)]
        for stream in streams:
            await stream.__aenter__()
        collected = [(await stream.take(4))[1:] for stream in streams]
        # A stream that still reads its history would end, and its client reconnect.
        await _history_is_read(api.port, len(streams))
        await _write(log, 3)
        for _ in range(2):
            await log.client.close()
            getattr(nats_server, end)()
            nats_server.start()
            # A fresh connection, which is there before the API's own comes back.
            log.client = await nats.connect(nats_server.url)
            await _write(log, 5)
        await log.complete()
        for stream, events in zip(streams, collected, strict=True):
            rest = await stream.all()
            assert stream.is_complete
            assert places([*events, *rest]) == log.written
        await log.client.close()


async def test_a_paused_client_continues_from_the_ring(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Its position is still in the ring: it gets the rest on the same connection."""
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution, receive_buffer=4096) as stream:
            events = (await stream.take(4))[1:]
            await api.all_live()
            # More than all buffers between here and there hold, less than the ring does.
            for number in range(30):
                await log.commit(written.step_log("n", f"{number}" + "x" * 100_000))
            await log.complete()
            while not api.hub.counts.slow:  # noqa: ASYNC110  # a gauge has no event
                await asyncio.sleep(0.01)
            events += await stream.all()
        assert places(events) == log.written
        await api.settled()
        assert api.hub.counts.slow == api.hub.runtime.slow_clients.bytes == 0


async def test_a_client_that_the_ring_has_overtaken_resumes_from_the_log(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Its stream ends gracefully, and the next one has every missing event."""
    small = {"ring_events": 16, "ring_bytes": 65536, "direct_writes": direct}
    async with api_in_process(idle_nats.url, **small) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution, receive_buffer=4096) as stream:
            events = (await stream.take(4))[1:]
            await api.all_live()
            for number in range(120):
                await log.commit(written.step_log("n", f"{number}" + "x" * 100_000))
            await log.complete()
            events += await stream.all()
            assert stream.is_complete
            assert stream.parser.retry is not None
        await api.settled()
        assert api.hub.counts.closed == {"lagged": 1}
        async with follow(api.port, log.execution, stream.parser.last_event_id) as stream:
            events += (await stream.all())[1:]
        assert places(events) == log.written
        await api.settled()


async def _rest(port: int, log: HandWrittenLog, last_event_id: str) -> list[SseEvent]:
    """Return what comes after an id, over as many connections as it takes."""
    events: list[SseEvent] = []
    while True:
        async with follow(port, log.execution, last_event_id) as stream:
            with contextlib.suppress(ConnectionResetError):
                async for event in stream:
                    events.append(event)  # noqa: PERF401 - what came before a cut counts
        if stream.status == 204:
            return events
        last_event_id = stream.parser.last_event_id


async def test_a_stalled_client_is_disconnected_and_resumes(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """It is disconnected after the stall timeout; other clients see no delay."""
    async with api_in_process(
        idle_nats.url, direct_writes=direct, stall_timeout=0.5, heartbeat=0.2
    ) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        async with (
            follow(api.port, log.execution, receive_buffer=4096) as stalled,
            follow(api.port, log.execution) as other,
        ):
            events = (await stalled.take(4))[1:]
            await other.take(4)
            number = 0
            # Of what the kernel takes whole each time, or the other one would stall as well where
            # this process, in which both ends are, stands still for a while.
            while api.hub.sizes[0] == 2:
                number += 1
                await log.commit(written.step_log("n", f"{number}" + "x" * 5_000))
                (event,) = await other.take(1)
                assert event.id.split("-")[1] == str(log.last)
            await api.settled(1, 1, 1)
            await api.sockets(1)
            # What was on its way still arrives, then the connection is gone.
            with contextlib.suppress(ConnectionResetError):
                while (some := await stalled.read()) is not None:
                    events += some
            assert not stalled.is_complete
            last_event_id = stalled.parser.last_event_id
        # The kernel may give the client up before, and ASGI does not say why a client is gone.
        allowed = {"stalled"} if direct else {"stalled", "left"}
        assert api.hub.counts.closed.total() == 1
        assert api.hub.counts.closed.keys() <= allowed
        await log.complete()
        events += await _rest(api.port, log, last_event_id)
        assert places(events) == log.written


async def test_stalled_clients_do_not_make_the_process_grow(
    idle_nats: NatsServer, nats_client: Client, tmp_path: Path, direct: bool
) -> None:
    """Two hundred clients that read nothing hold what their sockets hold, not what they missed."""
    with ApiProcess(
        idle_nats.url, tmp_path, direct_writes=str(direct).lower(), stall_timeout="1m"
    ) as api:
        log = HandWrittenLog(nats_client)
        await log.begin()
        await log.commit(written.step_started("n"))
        stalled = [follow(api.port, log.execution, receive_buffer=4096) for _ in range(200)]
        for stream in stalled:
            await stream.__aenter__()
            await stream.take(4)
        before = _resident_mib(api.pid)
        async with follow(api.port, log.execution) as reading:
            await reading.take(4)
            for number in range(300):
                await log.commit(written.step_log("n", f"{number}" + "x" * 50_000))
                await reading.take(1)
        # 15 MB were written: queues would hold three gigabytes, one ring and 200 sockets do not.
        assert _resident_mib(api.pid) - before < 200
        for stream in stalled:
            await stream.__aexit__(None, None, None)


async def test_clients_that_leave_leave_nothing_behind(
    idle_nats: NatsServer, nats_client: Client, direct: bool
) -> None:
    """At any point of a stream, live or not; connections, topics, subscriptions and tasks."""
    dice = random.Random(7)
    async with api_in_process(idle_nats.url, direct_writes=direct, heartbeat=0.1) as api:
        logs = [HandWrittenLog(nats_client) for _ in range(10)]
        for log in logs:
            await log.begin()
            await log.commit(written.step_started("n"))
        await api.settled()
        gc.collect()
        tasks = len(asyncio.all_tasks())
        for _ in range(3):
            streams = [follow(api.port, dice.choice(logs).execution) for _ in range(60)]
            for stream in streams:
                await stream.__aenter__()
                await stream.until_cut(dice.randrange(1, 700))
            for log in logs:
                await _write(log, 2)
            for stream in streams:
                await stream.__aexit__(None, None, None)
        async with asyncio.timeout(60):
            await api.settled()
            while len(asyncio.all_tasks()) > tasks:  # noqa: ASYNC110  # asyncio has no event for it
                await asyncio.sleep(0.01)


async def test_sigterm_ends_open_streams_in_good_order(
    idle_nats: NatsServer, nats_client: Client, tmp_path: Path, direct: bool
) -> None:
    """Two hundred clients get a complete response and a delay; no timeout is waited for."""
    with ApiProcess(
        idle_nats.url, tmp_path, direct_writes=str(direct).lower(), drain_timeout="10m"
    ) as api:
        log = HandWrittenLog(nats_client)
        await log.begin()
        await log.commit(written.step_started("n"))
        streams = [follow(api.port, log.execution) for _ in range(200)]
        for stream in streams:
            await stream.__aenter__()
            assert len(await stream.take(4)) == 4
        ending = asyncio.create_task(asyncio.to_thread(api.stop))
        for stream in streams:
            stream.parser.retry = None
        assert [await stream.all() for stream in streams] == [[]] * 200
        assert all(stream.is_complete for stream in streams)
        assert all(stream.parser.retry is not None for stream in streams)
        assert len({stream.parser.retry for stream in streams}) > 100
        assert await ending == 0


async def test_sigterm_cuts_what_does_not_end(
    idle_nats: NatsServer, nats_client: Client, tmp_path: Path, direct: bool
) -> None:
    """A client that takes nothing, and a request that never comes whole, get the drain timeout."""
    with ApiProcess(
        idle_nats.url,
        tmp_path,
        direct_writes=str(direct).lower(),
        drain_timeout="1s",
        # Neither of these is what ends them.
        stall_timeout="10m",
        receive_timeout="10m",
    ) as api:
        log = HandWrittenLog(nats_client)
        await log.begin()
        await log.commit(written.step_started("n"))
        async with follow(api.port, log.execution, receive_buffer=4096) as stalled:
            await stalled.take(4)
            for number in range(120):
                await log.commit(written.step_log("n", f"{number}" + "x" * 100_000))
            _, writer = await asyncio.open_connection("127.0.0.1", api.port)
            writer.write(
                b"PUT /api/v1/workflows/x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 9\r\n\r\n{"
            )
            await writer.drain()
            assert await asyncio.to_thread(api.stop) == 0
            writer.close()


async def test_a_stopping_process_sends_new_clients_a_retry(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Its listeners stay open while it drains; a new stream is refused in the stream."""
    await log.begin()
    async with api_in_process(idle_nats.url, direct_writes=direct) as api:
        api.hub.is_draining = True
        async with follow(api.port, log.execution) as stream:
            (refusal,) = await stream.all()
            assert (refusal.type, refusal.json()["reason"]) == ("stream:refused", "draining")
            assert (stream.status, stream.is_complete) == (200, True)
            assert stream.parser.retry is not None


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match.group(1)) / 1024
