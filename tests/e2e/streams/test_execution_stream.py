"""The stream of one execution: history, then live, from any id, to the end."""

import asyncio

import nats
import pytest
from nats.aio.client import Client

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.in_process_api import api_in_process
from harness.sse.client import SseClient, SseEvent, follow, places
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.subjects import Subjects


async def epoch_of(log: HandWrittenLog) -> str:
    """Return the epoch of the stream EVENTS."""
    return (await ExecutionLog(JetStream(log.client), Subjects()).edge()).epoch


async def write_run(log: HandWrittenLog, steps: int = 3) -> None:
    """Write a whole execution, most of its commits with more than one event."""
    await log.begin()
    for number in range(steps):
        await log.commit(
            written.step_started(f"n{number}"),
            written.step_progress(f"n{number}", 50),
            written.step_completed(f"n{number}", {"text": "é\r\n\u2028"}),
        )
    await log.complete()


async def test_history_comes_first_then_what_happens(port: int, log: HandWrittenLog) -> None:
    """A late subscriber misses nothing, sees the rest as it is committed, and the end."""
    await log.begin()
    await log.step("a", {"n": 1})
    async with follow(port, log.execution) as stream:
        connected, *events = await stream.take(5)
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-cache, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        assert stream.headers["connection"] == "keep-alive"
        assert stream.parser.retry is not None
        assert 10 <= stream.parser.retry <= 30
        assert (connected.type, connected.is_logged) == ("connected", False)
        assert connected.json() == {"execution_id": log.execution}
        for number in range(5):
            await log.step(f"b{number}")
            events += await stream.take(2)
        await log.complete({"out": 1})
        events += await stream.all()
        assert stream.is_complete
    assert places(events) == log.written
    assert events[2].json()["data"]["node_id"] == "a"


async def test_every_position_can_be_resumed_from(
    replicas: list[ApiProcess], log: HandWrittenLog
) -> None:
    """After each event, at any replica, exactly the rest comes; after the last one 204."""
    await write_run(log)
    epoch = await epoch_of(log)
    for number, (_, sequence, index) in enumerate(log.written):
        port = replicas[number % len(replicas)].port
        async with follow(port, log.execution, f"{epoch}-{sequence}-{index}") as stream:
            events = await stream.all()
        if number == len(log.written) - 1:
            assert (stream.status, events) == (204, [])
        else:
            assert places(events) == log.written[number + 1 :]
            assert events[0].type == "connected"


async def test_the_id_may_come_in_the_query(port: int, log: HandWrittenLog) -> None:
    """Some clients cannot send headers; if both are present, the header counts."""
    await write_run(log)
    epoch = await epoch_of(log)
    _, sequence, index = log.written[-3]
    path = (
        f"/api/v1/sse/executions/{log.execution}/stream?organization_id={log.tenant}"
        f"&last_event_id={epoch}-{sequence}-{index}"
    )
    async with SseClient(port, path) as stream:
        assert places(await stream.all()) == log.written[-2:]
    _, sequence, index = log.written[-1]
    async with SseClient(port, path, last_event_id=f"{epoch}-{sequence}-{index}") as stream:
        await stream.all()
        assert stream.status == 204


async def test_a_client_that_sees_nothing_new_learns_where_it_is(
    port: int, log: HandWrittenLog
) -> None:
    """Resumed at the edge, it gets its position again with the greeting, and heartbeats."""
    await log.begin()
    position = f"{await epoch_of(log)}-{log.last}-0"
    async with follow(port, log.execution, position) as stream:
        while not stream.parser.comments:
            assert [event.type for event in await stream.read() or []] in ([], ["connected"])
        assert stream.parser.first_id == position
        assert set(stream.parser.comments) == {"heartbeat"}
        await log.complete()
        assert places(await stream.all()) == log.written[-1:]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("garbage", "unknown"),
        ("{epoch}-999999999-0", "restored"),
        ("{epoch}-{other}-0", "unknown"),
        ("{epoch}-{own}-99", "unknown"),
        ("{epoch}-{own}", "unknown"),
        ("{epoch}-{own}-0-0", "unknown"),
        ("{epoch}-18446744073709551616-0", "unknown"),
        ("0{epoch}-{own}-0", "recreated"),
        ("18c0ffee000-{own}-0", "recreated"),
        ("x" * 4000, "unknown"),
        ("1-1-1'; drop table", "unknown"),
    ],
)
async def test_an_id_that_cannot_be_served_resets_the_stream(
    port: int, nats_client: Client, log: HandWrittenLog, text: str, reason: str
) -> None:
    """It is said in the stream, with the reason and the new start; then all events come."""
    other = HandWrittenLog(nats_client, log.tenant)
    await other.begin()
    await write_run(log)
    last_event_id = text.format(epoch=await epoch_of(log), other=other.last, own=log.last)
    async with follow(port, log.execution, last_event_id) as stream:
        connected, reset, *events = await stream.all()
    assert stream.status == 200
    assert (connected.type, reset.type, reset.is_logged) == ("connected", "stream:reset", False)
    assert reset.json() == {"reason": reason, "from": events[0].id}
    assert places(events) == log.written


async def test_history_that_has_expired_is_said_to_be(port: int, log: HandWrittenLog) -> None:
    """Every retained event arrives."""
    await write_run(log)
    first, second = log.written[0][1], log.written[1][1]
    epoch = await epoch_of(log)
    # The commit itself goes, as it would with age.
    await JetStream(log.client).api(
        "STREAM.PURGE.EVENTS", {"filter": Subjects().log(log.tenant, log.execution), "seq": second}
    )
    async with follow(port, log.execution, f"{epoch}-{first}-0") as stream:
        _, reset, *events = await stream.all()
    assert reset.json() == {"reason": "expired", "from": f"{epoch}-{second}-0"}
    assert places(events) == log.written[1:]


async def _answered(
    port: int, log: HandWrittenLog, last_event_id: str, status: int
) -> tuple[SseClient, list[SseEvent]]:
    """Follow an execution until it gets a status: some replicas of the log delete later."""
    while True:
        async with follow(port, log.execution, last_event_id) as stream:
            events = await stream.all()
        if stream.status == status:
            return stream, events
        await asyncio.sleep(0.05)


async def test_a_completely_expired_execution_resets_once(
    port: int, nats_client: Client, log: HandWrittenLog
) -> None:
    """Its client gets a reset with the newest position; reconnecting with that is 404."""
    await write_run(log)
    other = HandWrittenLog(nats_client, log.tenant)
    await other.begin()
    epoch = await epoch_of(log)
    # All of the log up to here goes, as it would with age.
    await JetStream(nats_client).api("STREAM.PURGE.EVENTS", {"seq": other.last})
    stream, events = await _answered(port, log, f"{epoch}-{log.last}-0", 200)
    connected, reset = events
    assert stream.is_complete
    assert connected.type == "connected"
    assert reset.json() == {"reason": "expired", "from": None}
    now = stream.parser.last_event_id
    assert stream.parser.first_id == now
    assert now == f"{epoch}-{other.last}-0"
    for text in (now, "", "garbage", f"18c0ffee000-{log.last}-0"):
        await _answered(port, log, text, 404)


async def test_a_recreated_log_resets_its_streams(nats_server: NatsServer, direct: bool) -> None:
    """Ids of the old one are not mixed up with those of the new one."""
    client = await nats.connect(nats_server.url)
    async with api_in_process(
        nats_server.url, direct_writes=direct, heartbeat=0.1, retry=0.02
    ) as api:
        log = HandWrittenLog(client, "default")
        await log.begin()
        async with follow(api.port, log.execution) as stream:
            _, *events = await stream.take(3)
            await JetStream(client).api("STREAM.DELETE.EVENTS")
            await ensure(JetStream(client), topology(ApiSettings()))
            # Streams of the old epoch are ended: their ids mean nothing any more.
            assert await stream.all() == []
            assert stream.is_complete
        new = HandWrittenLog(client, "default", log.execution)
        await new.begin("again")
        await new.complete()
        async with follow(api.port, new.execution, events[-1].id) as stream:
            _, reset, *rest = await stream.all()
        assert reset.json()["reason"] == "recreated"
        assert rest[0].id.split("-")[0] == await epoch_of(new)
        assert places(rest) == new.written
    await client.close()


async def test_two_dialects_and_many_clients_share_one_subscription(
    idle_nats: NatsServer, log: HandWrittenLog, direct: bool
) -> None:
    """Topics are one for each dialect, subscriptions one for each execution."""
    await log.begin()
    epoch = await epoch_of(log)
    async with api_in_process(idle_nats.url, direct_writes=direct, heartbeat=0.2) as api:
        first = [follow(api.port, log.execution) for _ in range(5)]
        watching = SseClient(
            api.port,
            "/api/v1/executions/stream",
            method="POST",
            last_event_id=f"{epoch}-{log.last}-0",
            headers={"x-organization-id": log.tenant},
            body={},
        )
        streams = [await stream.__aenter__() for stream in [*first, watching]]
        for stream in streams[:-1]:
            await stream.take(3)
        await api.settled(6, 2, 1)
        await log.step("a")
        for stream in streams:
            assert len(await stream.take(2)) == 2
        await log.complete()
        await asyncio.gather(*(stream.all() for stream in streams))
        await api.settled()


async def test_a_head_request_gets_the_head(port: int, log: HandWrittenLog) -> None:
    """No stream is opened."""
    await log.begin()
    path = f"/api/v1/sse/executions/{log.execution}/stream?organization_id={log.tenant}"
    async with SseClient(port, path, method="HEAD", headers={"connection": "close"}) as stream:
        while await stream.read() is not None:
            pass
    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.parser.retry is None
