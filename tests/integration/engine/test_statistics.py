"""What runs leave behind, and what later runs tell by it."""

from typing import Any

import pytest

from harness.installation import TENANT, Installation
from harness.workflows import definition
from tailrace_shared.execution.events import (
    Event,
    ExecutionStarted,
    StepProgressed,
    parse_timestamp,
)
from tailrace_shared.execution.record import RunRecord, Trouble
from tailrace_shared.sketch import Sketch, count_of
from tailrace_shared.stats_store import StatsStore
from tailrace_shared.topology import STATS

SLEEP = {
    "a": {"type": "simulate", "with": {"duration": "200ms"}},
    "b": {
        "type": "simulate",
        "needs": ["a"],
        "with": {"duration": "900ms", "progress": True},
        "stage": "work",
    },
}


async def ended(site: Installation, runs: int, workflow: str = "test") -> RunRecord:
    """Wait until so many runs are on record."""
    store = StatsStore(site.jetstream, site.subjects)
    return await site._until(
        [f"$KV.{site.subjects.stream(STATS)}.>"],
        lambda: store.runs(TENANT, workflow),
        lambda record: record.completed + record.failed + record.cancelled >= runs,
        30.0,
    )


def _started(events: list[Event]) -> ExecutionStarted:
    return next(event for event in events if isinstance(event, ExecutionStarted))


def _progress(events: list[Event]) -> list[StepProgressed]:
    return [event for event in events if isinstance(event, StepProgressed)]


async def test_every_run_is_on_record_once(site: Installation):
    """However it ended, and whichever worker it ended on."""
    site.worker()
    site.worker()
    nodes: dict[str, Any] = {
        "a": {"type": "transform", "with": {"value": 1}},
        "b": {"type": "fail", "needs": ["a"], "when": "input.fails", "with": {"message": "no"}},
    }
    stored = await site.store(definition(nodes))
    for number in range(12):
        await site.finished(await site.start(stored, {"fails": number % 3 == 0}))
    record = await ended(site, 12)
    assert (record.completed, record.failed) == (8, 4)
    assert sum(sum(minute) for minute in record.minutes.values()) == 12
    assert count_of(record.durations) == 8
    kept = await StatsStore(site.jetstream, site.subjects).nodes(TENANT, "test")
    assert count_of(kept.durations["a"]) == 12
    assert kept.troubles["b"] == Trouble(failed=4, skipped=8)


async def test_a_worker_that_stops_writes_what_it_has_noted(site: Installation):
    """Nothing is lost in good order."""
    worker = site.worker()
    await site.run(
        {
            "m": {
                "type": "map",
                "with": {
                    "for_each": "[1, 2, 3]",
                    "do": {"type": "transform", "with": {"value": 1}},
                },
            }
        }
    )
    assert worker.stop() == 0
    store = StatsStore(site.jetstream, site.subjects)
    assert (await store.runs(TENANT, "test")).completed == 1
    assert count_of((await store.nodes(TENANT, "test")).durations["m[]"]) == 3


async def test_a_later_run_tells_how_long_it_will_take(site: Installation):
    """As it begins, and with every report of a node, together with how far it is."""
    site.worker()
    stored = await site.store(definition(SLEEP))
    first = await site.finished(await site.start(stored))
    assert _started(first).data.eta_ms is None
    assert _progress(first)[-1].data.progress == pytest.approx(97.5, abs=3)
    await ended(site, 1)
    log, eta = first, None
    # That there has been no run may be believed for a moment longer.
    while eta is None:
        log = await site.finished(await site.start(stored))
        eta = _started(log).data.eta_ms
    assert eta == pytest.approx(1150, rel=0.3)
    end = parse_timestamp(log[-1].timestamp)
    reports = _progress(log)
    for report in reports:
        assert report.data.progress is not None
        assert report.data.eta_ms is not None
        left = 1000 * (end - parse_timestamp(report.timestamp))
        assert report.data.eta_ms == pytest.approx(left, abs=500)
    shown = [report.data.progress or 0.0 for report in reports]
    assert shown == sorted(shown)
    assert 50 <= shown[0] < shown[-1] <= 100
    nodes = await StatsStore(site.jetstream, site.subjects).nodes(TENANT, "test")
    assert Sketch.unpack(nodes.durations["a"]).quantile(0.5) == pytest.approx(220, rel=0.2)
