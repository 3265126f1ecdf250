"""Clients that stall for ever, or take a byte at a time, among thousands that do not."""

from pathlib import Path

import httpx
import pytest

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog, event_ids
from harness.models.measurements import RecordProperty, percentiles
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.process_usage import memory_bytes
from harness.sse.crowd import Crowd
from harness.sse.crowd_members import Target

_HEALTHY = 4000
_STALLED = 500
_DRIPPING = 500
_EVENT_BYTES = 20 * 1024
_ROUNDS_ALONE = 4
_ROUNDS_AMONG = 12
_MIB = 2**20
_BACKLOG = 64 * _MIB
# Memory that is no client's backlog: the ring, and Python's own.
_REST = 32 * _MIB

# A busy machine takes minutes for gigabytes.
pytestmark = pytest.mark.timeout(400)


async def _rounds(log: HandWrittenLog, crowd: Crowd, count: int) -> list[float]:
    """Write an event when all have the one before; return how long each took to reach all."""
    seconds = []
    for _ in range(count):
        await log.commit(written.timed_log("n", _EVENT_BYTES))
        await crowd.reached((await event_ids(log))[-1])
        seconds.append(max(await crowd.delays()))
    return seconds


async def _gauges(api: ApiProcess) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=api.url, timeout=60) as client:
        metrics = (await client.get("/metrics")).text
    lines = (line.rsplit(maxsplit=1) for line in metrics.splitlines())
    return {
        name: float(value)
        for name, value in lines
        if name in ("tailrace_api_streams", "tailrace_api_streams_slow")
    }


async def test_slow_clients_delay_no_client_and_cost_no_memory(
    nats_server: NatsServer,
    log: HandWrittenLog,
    tmp_path: Path,
    record_property: RecordProperty,
) -> None:
    """Four thousand others get each event, though a thousand take no more and are not cut."""
    settings = {"stall_timeout": "10m", "max_backlog_bytes": str(_BACKLOG)}
    with ApiProcess(nats_server.url, tmp_path, **settings) as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        target = Target.execution(api.port, log.execution)
        async with Crowd() as healthy, Crowd() as slow:
            await healthy.connect(_HEALTHY, target)
            alone = await _rounds(log, healthy, _ROUNDS_ALONE)
            await slow.connect(_STALLED, target, manner="stall")
            await slow.connect(_DRIPPING, target, manner="drip")
            before = memory_bytes(api.pid)
            among = await _rounds(log, healthy, _ROUNDS_AMONG)
            growth = memory_bytes(api.pid) - before
            gauges = await _gauges(api)
            report = await healthy.report()
        assert report.histories == [(_HEALTHY, await event_ids(log))]
        # No client that reads was disconnected.
        assert report.statuses == {200: _HEALTHY}
    record_property("last of 4,000 has an event, alone", percentiles(alone))
    record_property("last of 4,000 has an event, among 1,000 slow", percentiles(among))
    record_property("memory, MiB more", growth // _MIB)
    missed = (_STALLED + _DRIPPING) * _ROUNDS_AMONG * _EVENT_BYTES
    record_property("not taken by slow clients, MiB", missed // _MIB)
    assert growth < _BACKLOG + _REST < missed
    # The slow clients stayed connected and always had unread data, so any wait for one of them
    # would have been endless.
    slow_clients = _STALLED + _DRIPPING
    assert gauges == {
        "tailrace_api_streams": _HEALTHY + slow_clients,
        "tailrace_api_streams_slow": slow_clients,
    }
