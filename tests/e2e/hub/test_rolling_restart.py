"""A rolling restart of all replicas behind nginx, under two thousand clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog, event_ids
from harness.http.nginx import Nginx, balancer
from harness.models.measurements import RecordProperty, percentiles
from harness.nats.server import NatsServer
from harness.processes.api_process import api_replicas
from harness.processes.ports import free_port
from harness.sse.crowd import Crowd
from harness.sse.crowd_members import Target

_CLIENTS = 2000
_PAUSE = 0.25

# A busy machine takes minutes for thousands of clients.
pytestmark = pytest.mark.timeout(400)


@contextlib.asynccontextmanager
async def _writing(log: HandWrittenLog) -> AsyncIterator[asyncio.Event]:
    """Append commits until the block ends; yields what is set with each of them."""
    is_over, has_written = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        while not is_over.is_set():
            await log.commit(written.step_progress("n", 1), written.timed_log("n"))
            has_written.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), _PAUSE)

    writing = asyncio.create_task(write())
    yield has_written
    is_over.set()
    await writing


async def test_no_client_misses_or_repeats_an_event(
    nats_server: NatsServer,
    log: HandWrittenLog,
    tmp_path: Path,
    record_property: RecordProperty,
) -> None:
    """Each replica in turn is stopped and started, while events go on; all clients end with 204."""
    with api_replicas(3, nats_server.url, tmp_path, retry="500ms") as replicas:
        port = free_port()
        upstreams = [replica.port for replica in replicas]
        with Nginx(port, balancer(port, upstreams), tmp_path):
            await log.begin()
            await log.commit(written.step_started("n"))
            async with Crowd() as crowd:
                await crowd.connect(_CLIENTS, Target.execution(port, log.execution))
                async with _writing(log) as has_written:
                    # Each when the one before is ready, as in a deployment.
                    for replica in replicas:
                        assert await asyncio.to_thread(replica.stop) == 0
                        has_written.clear()
                        await has_written.wait()
                        await asyncio.to_thread(replica.start)
                await log.complete()
                await crowd.finished()
                report = await crowd.report()
                delays = await crowd.delays()
    assert report.histories == [(_CLIENTS, await event_ids(log))]
    # No error status, after which an EventSource would stop; each client received the end of the
    # stream.
    assert set(report.statuses) == {200, 204}
    assert report.statuses[204] == _CLIENTS
    assert report.resets == 0
    assert len(report.gaps) >= _CLIENTS // 2
    record_property("clients", _CLIENTS)
    record_property("events each", len(log.written))
    record_property("connections lost and replaced", len(report.gaps))
    record_property("without a connection", percentiles(report.gaps))
    record_property("written to received", percentiles(delays))
