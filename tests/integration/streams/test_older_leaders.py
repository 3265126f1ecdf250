"""An older leader of the log answers on its side of a partition, on three real servers."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from harness.generators.hand_written_log import HandWrittenLog, event_ids
from harness.nats.cluster import NatsCluster
from harness.processes.in_process_api import api_in_process
from harness.sse.client import SseEvent, follow, places
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import ApiSettings


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Start a cluster for this test alone, because it freezes servers."""
    with NatsCluster(tmp_path) as started:
        yield started


async def leader_of(client: Client) -> int:
    """Return the number of the server that leads EVENTS; wait for one."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError, JetStreamError):
                info = await JetStream(client).api("STREAM.INFO.EVENTS")
                if name := info["cluster"].get("leader"):
                    return int(name.removeprefix("n"))
            await asyncio.sleep(0.1)


def _check_refusal(event: SseEvent, last_event_id: str) -> None:
    """Check that an event refuses the client for now, and leaves it its position."""
    assert event.type == "stream:refused"
    assert event.id == last_event_id
    assert event.json()["reason"] in ("unavailable", "disconnected", "busy")
    assert event.json()["retry_ms"] is not None


@pytest.mark.timeout(180)
async def test_a_client_of_the_other_side_is_not_reset(cluster: NatsCluster) -> None:
    """Its id is beyond what the older leader knows; after healing it misses nothing."""
    settings = ApiSettings(nats_url=cluster.url, nats_replicas=3)
    setup = await connect(settings, "test")
    await ensure(JetStream(setup), topology(settings))
    log = HandWrittenLog(setup)
    await log.begin()
    old = await leader_of(setup)
    others = [number for number in range(3) if number != old]
    urls = ",".join(cluster.urls[number] for number in others)
    writer = await connect(ApiSettings(nats_url=urls, nats_replicas=3), "test")
    log.client = writer
    async with api_in_process(cluster.urls[old], nats_replicas=3, retry=0.02) as api:
        async with follow(api.port, log.execution) as live:
            received = await live.take(3)
            cluster.freeze(old)
            while await leader_of(writer) == old:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            await log.step("other-side")
            ids = await event_ids(log)
            for number in others:
                cluster.freeze(number)
            cluster.thaw(old)
            # The older leader answers, or none does and the stream is refused: never a reset.
            async with follow(api.port, log.execution, ids[-1]) as stream:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(6):
                        for event in await stream.all():
                            if event.type != "connected":
                                _check_refusal(event, ids[-1])
            for number in others:
                cluster.thaw(number)
            await leader_of(writer)
            await log.complete()
            received += await live.all()
        last = received[-1].id
        while last != (await event_ids(log))[-1]:
            async with follow(api.port, log.execution, last) as stream:
                events = await stream.all()
            assert "stream:reset" not in [event.type for event in events]
            received += events
            last = stream.parser.last_event_id or last
        assert places(received) == log.written
        async with follow(api.port, log.execution, ids[-1]) as stream:
            events = await stream.all()
        assert places(events) == log.written[-1:]
    await writer.close()
    await setup.close()
