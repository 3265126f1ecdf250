"""Statistics documents."""

import pytest

from harness.generators.workflows import definition
from tailrace_api.dialects.statistics_document import Ended, tenant_statistics, workflow_details
from tailrace_shared.estimation import FailureCounts, NodeHistory, RunHistory, Sketch

NOW = 1_700_006_430.0
MINUTE = int(NOW // 60)


def _record(**fields: int) -> RunHistory:
    return RunHistory(
        **fields,
        minutes={MINUTE - 60: (9, 9, 9), MINUTE - 59: (1, 0, 0), MINUTE: (2, 1, 1)},
        durations=Sketch.of(range(1000, 2000)).pack(),
        steps=Sketch.of(range(100, 200)).pack(),
    )


def test_tenant_statistics_combine_its_workflows() -> None:
    """Counts are added, sketches merged; a workflow with only active runs is listed."""
    records = {"a": _record(completed=30, failed=4), "b": _record(completed=12, cancelled=3)}
    document = tenant_statistics("t", records, {"b": 2, "new": 1}, (5, 2), NOW)
    assert (document.merchant_id, document.timestamp) == ("t", round(NOW * 1000))
    assert (document.connected_clients, document.replicas, document.active_runs) == (5, 2, 3)
    assert document.ended == Ended(42, 4, 3)
    assert document.last_hour == Ended(6, 2, 2)
    assert document.success_rate == 0.75
    assert document.runs_per_minute == pytest.approx(10 / 60, abs=0.01)
    assert document.run_latency.count == 2000
    assert document.run_latency.p50_ms == pytest.approx(1500, rel=0.02)
    assert document.run_latency.p99_ms == pytest.approx(1990, rel=0.02)
    assert [each.workflow_id for each in document.workflows] == ["a", "b", "new"]
    assert [each.active_runs for each in document.workflows] == [0, 2, 1]
    assert document.workflows[2].run_latency.p50_ms is None


def test_throughput_covers_sixty_minutes() -> None:
    """The current minute last, and idle minutes as zeros."""
    document = tenant_statistics("t", {"a": _record()}, {}, (0, 1), NOW)
    assert len(document.throughput) == 60
    assert document.throughput[-1].at == "2023-11-15T00:00:00.000Z"
    assert (document.throughput[-1].completed, document.throughput[-1].failed) == (2, 1)
    assert document.throughput[0].completed == 1
    assert sum(minute.completed for minute in document.throughput) == 3


def test_a_tenant_without_runs_has_no_percentiles() -> None:
    """It has no success rate either, which differs from zero."""
    document = tenant_statistics("t", {}, {}, (0, 1), NOW)
    assert document.success_rate is None
    assert document.step_latency.p95_ms is None
    assert len(document.throughput) == 60


def test_workflow_statistics_list_all_nodes() -> None:
    """Nodes have the order of the definition; nodes without runs are included."""
    work = {"for_each": "[1]", "do": {"type": "simulate"}}
    workflow = definition({"a": {}, "m": {"type": "map", "needs": ["a"], "with": work}, "z": {}})
    nodes = NodeHistory(
        durations={
            "a": Sketch.of([100] * 9).pack(),
            "m": Sketch.of([900]).pack(),
            "m[]": Sketch.of([50] * 20).pack(),
        },
        failures={"a": FailureCounts(failed=1, retries=4, skipped=2)},
    )
    document = workflow_details(workflow, _record(completed=3), nodes, 1, NOW)
    first, mapping, never = document.nodes
    assert (first.node_id, first.succeeded, first.failed, first.retries) == ("a", 9, 1, 4)
    assert first.latency.p50_ms == pytest.approx(100, rel=0.02)
    assert mapping.items
    assert mapping.items.count == 20
    assert (mapping.node_type, never.latency.count) == ("map", 0)
    assert len(document.throughput) == 60
    assert document.active_runs == 1
