"""Statistics that runs record, and the estimates that later runs make from them."""

from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.processes.installation import TENANT, Installation
from tailrace_shared.estimation import FailureCounts, RunHistory, Sketch, count_of
from tailrace_shared.execution.events import Event, ExecutionStarted, StepCompleted, StepProgressed
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.nats.topology import STATS
from tailrace_shared.stores.stats_store import StatsStore

SLEEP = {
    "a": {"type": "simulate", "with": {"duration": "200ms"}},
    "b": {
        "type": "simulate",
        "needs": ["a"],
        "with": {"duration": "900ms", "progress": True},
        "stage": "work",
    },
}


async def ended(site: Installation, runs: int, workflow: str = "test") -> RunHistory:
    """Wait until so many runs are on record."""
    store = StatsStore(site.jetstream, site.subjects)
    return await site.until_read(
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
    assert kept.failures["b"] == FailureCounts(failed=4, skipped=8)


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


async def test_a_later_run_has_an_estimate(site: Installation):
    """Its start and every report of a node carry the remaining time and the progress."""
    site.worker()
    stored = await site.store(definition(SLEEP))
    first = await site.finished(await site.start(stored))
    assert _started(first).data.eta_ms is None
    for report in _progress(first):
        # Of two nodes one is done, and the other as far as it says, or done by then as well.
        so_far = pytest.approx(50 + report.data.percent / 2, abs=0.1)
        assert report.data.progress in (so_far, 100)
    await ended(site, 1)
    logs, eta = [first], None
    # That there has been no run may be believed for a moment longer.
    while eta is None:
        logs.append(await site.finished(await site.start(stored)))
        eta = _started(logs[-1]).data.eta_ms
    known = [_durations(log) for log in logs[:-1]]
    shortest, longest = [
        sum(each(durations[node] for durations in known) for node in ("a", "b"))
        for each in (min, max)
    ]
    assert 0.95 * shortest <= eta <= 1.05 * longest
    check_reports(logs[-1], eta)
    nodes = await StatsStore(site.jetstream, site.subjects).nodes(TENANT, "test")
    taken = [_durations(log)["a"] for log in logs]
    median = Sketch.unpack(nodes.durations["a"]).quantile(0.5)
    assert median is not None
    assert 0.95 * min(taken) <= median <= 1.05 * max(taken)


def _durations(events: list[Event]) -> dict[str, int]:
    """Return how long each step took, in milliseconds."""
    return {
        event.data.node_id: event.data.duration_ms
        for event in events
        if isinstance(event, StepCompleted)
    }


def check_reports(log: list[Event], eta: float) -> None:
    """Check what the reports of a run say of how far it is, and of how long it takes yet."""
    end, reports = parse_timestamp(log[-1].timestamp), _progress(log)
    # A run that a busy machine held up tells nothing of estimates.
    kept_time = abs(end - parse_timestamp(_started(log).timestamp) - eta / 1000) < 0.1
    for report in reports:
        assert report.data.progress is not None
        assert report.data.eta_ms is not None
        left = 1000 * (end - parse_timestamp(report.timestamp))
        assert not kept_time or report.data.eta_ms == pytest.approx(left, abs=500)
    shown = [report.data.progress or 0.0 for report in reports]
    assert shown == sorted(shown)
    assert 50 <= shown[0] <= shown[-1] <= 100
