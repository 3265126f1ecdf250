"""Clients that stall for ever, or take a byte at a time, among thousands that do not."""

import statistics
from pathlib import Path

from harness import log as written
from harness.api import ApiProcess
from harness.crowd import Crowd
from harness.crowd_members import Target
from harness.figures import RecordProperty, percentiles, record
from harness.log import HandWrittenLog, event_ids
from harness.nats import NatsServer
from harness.process_figures import memory_bytes

_HEALTHY = 4000
_STALLED = 500
_DRIPPING = 500
_EVENT_BYTES = 16 * 1024
_ROUNDS_BEFORE = 8
_ROUNDS_WITH = 30
_STALL_TIMEOUT = 90
# What the transport of a client may hold at the most: its high-water mark, and a write beyond it.
_BYTES_EACH = 128 * 1024
_BYTES_FOR_ALL = 48 * 1024 * 1024


async def _rounds(log: HandWrittenLog, crowd: Crowd, count: int) -> list[float]:
    """Write an event when all have the one before; returns how long each took to reach all."""
    epoch = (await event_ids(log))[0].partition("-")[0]
    seconds = []
    for _ in range(count):
        await log.commit(written.timed_log("n", _EVENT_BYTES))
        await crowd.reached(f"{epoch}-{log.last}-0")
        seconds.append(max(await crowd.delays()))
    return seconds


async def test_clients_that_take_little_delay_nobody_and_cost_no_memory(
    nats_server: NatsServer,
    log: HandWrittenLog,
    tmp_path: Path,
    record_property: RecordProperty,
) -> None:
    """Four thousand others get each event at once, though a thousand have long had too much."""
    with ApiProcess(nats_server.url, tmp_path, stall_timeout=f"{_STALL_TIMEOUT}s") as api:
        await log.begin()
        await log.commit(written.step_started("n"))
        target = Target.execution(api.port, log.execution)
        async with Crowd() as healthy, Crowd() as slow:
            await healthy.connect(_HEALTHY, target)
            alone = await _rounds(log, healthy, _ROUNDS_BEFORE)
            await slow.connect(_STALLED, target, manner="stall")
            await slow.connect(_DRIPPING, target, manner="drip")
            before = memory_bytes(api.pid)
            among = await _rounds(log, healthy, _ROUNDS_WITH)
            growth = memory_bytes(api.pid) - before
            report = await healthy.report()
        assert report.histories == [(_HEALTHY, await event_ids(log))]
        # Nobody who reads was ever cut.
        assert report.statuses == {200: _HEALTHY}
    record(record_property, "last of 4,000 has an event, alone", percentiles(alone))
    record(record_property, "last of 4,000 has an event, among 1,000 slow", percentiles(among))
    record(record_property, "memory, MiB more", growth // 2**20)
    missed = (_STALLED + _DRIPPING) * _ROUNDS_WITH * _EVENT_BYTES
    record(record_property, "not taken by slow clients, MiB", missed // 2**20)
    assert growth < (_STALLED + _DRIPPING) * _BYTES_EACH + _BYTES_FOR_ALL < missed
    # The slow were there all the time, for the timeout had not come for any of them.
    assert sum(alone) + sum(among) < _STALL_TIMEOUT
    assert statistics.median(among) < 4 * statistics.median(alone) + 0.5
