"""Recording of finished runs, and the stored history."""

from typing import Any

import msgspec
import pytest

from tailrace_shared.estimation import (
    FailureCounts,
    NodeHistory,
    RunDelta,
    RunHistory,
    Sketch,
    decode_nodes,
    decode_runs,
    encode_nodes,
    encode_runs,
    items_key,
)
from tailrace_shared.estimation.run_history import MAX_BYTES
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.execution.transitions import ExecutionStatus

NOON = 1_700_006_400.0


def _run(
    *steps: StepState,
    status: ExecutionStatus = "completed",
    ended: float = NOON,
    duration_ms: int = 1000,
    **fields: Any,
) -> ExecutionState:
    return ExecutionState(
        status=status,
        finished_at=format_timestamp(ended),
        duration_ms=duration_ms,
        steps={step.node_id: step for step in steps},
        **fields,
    )


def _done(node: str, milliseconds: int, node_type: str = "simulate", **fields: Any) -> StepState:
    return StepState(node, node_type, "success", duration_ms=milliseconds, **fields)


def _delta(*runs: ExecutionState) -> RunDelta:
    delta = RunDelta()
    for run in runs:
        delta.record_run(run)
    return delta


def _nodes(*runs: ExecutionState) -> NodeHistory:
    history = NodeHistory()
    _delta(*runs).add_to_nodes(history)
    return history


def _runs(*runs: ExecutionState) -> RunHistory:
    history = RunHistory()
    _delta(*runs).add_to_runs(history)
    return history


def _median(packed: list[int]) -> float | None:
    return Sketch.unpack(packed).quantile(0.5)


def test_runs_are_counted_by_outcome_and_minute() -> None:
    """Counts exist for each minute of the last hour, and in total."""
    history = _runs(
        _run(), _run(), _run(status="failed", ended=NOON + 60), _run(status="cancelled")
    )
    assert (history.completed, history.failed, history.cancelled) == (2, 1, 1)
    minute = int(NOON // 60)
    assert history.minutes == {minute: (2, 0, 1), minute + 1: (0, 1, 0)}
    _delta(_run(ended=NOON + 3600)).add_to_runs(history)
    assert history.minutes == {minute + 1: (0, 1, 0), minute + 60: (1, 0, 0)}
    assert history.completed == 3


def test_only_successful_steps_and_runs_count_for_durations() -> None:
    """The time until a failure says nothing about durations."""
    failed = _run(_done("a", 20), StepState("b", "simulate", "error"), status="failed")
    runs, nodes = _runs(_run(_done("a", 40)), failed), _nodes(_run(_done("a", 40)), failed)
    assert _median(runs.durations) == pytest.approx(1000, rel=0.01)
    assert Sketch.unpack(runs.durations).count == 1
    assert Sketch.unpack(nodes.durations["a"]).count == 2
    assert nodes.failures == {"b": FailureCounts(failed=1)}


def test_the_items_of_a_map_share_one_sketch() -> None:
    """The map as a whole has a sketch of its own."""
    items = [_done(f"m[{index}]", 100) for index in range(50)]
    history = _nodes(_run(_done("m", 5000, "map"), *items))
    assert set(history.durations) == {"m", items_key("m")}
    assert Sketch.unpack(history.durations[items_key("m")]).count == 50
    assert _median(history.durations["m"]) == pytest.approx(5000, rel=0.01)


def test_retries_and_their_time_are_counted_separately() -> None:
    """The duration is that of the successful attempt; the time before it is lost time."""
    begun, started = format_timestamp(NOON), format_timestamp(NOON + 3)
    step = _done("a", 500, failures=1, crashes=1, begun_at=begun, started_at=started)
    history = _nodes(_run(step, StepState("b", "simulate", "skipped")))
    assert history.failures["a"] == FailureCounts(retries=2, lost_ms=3000)
    assert history.failures["b"] == FailureCounts(skipped=1)
    assert _median(history.durations["a"]) == pytest.approx(500, rel=0.01)


def test_decisions_and_reused_outputs_do_not_count_as_work() -> None:
    """A decision is not work, and a reused output is the work of another run."""
    run = _run(_done("ask", 10**8, "await"), _done("a", 100), _done("b", 900, kept_from="e0"))
    runs, nodes = _runs(run), _nodes(run)
    assert set(nodes.durations) == {"ask", "a"}
    assert set(nodes.types) == {"simulate"}
    assert Sketch.unpack(runs.steps).count == 1
    assert _median(nodes.work) == pytest.approx(100, rel=0.01)


def test_old_runs_decay() -> None:
    """The history follows a node that becomes slower, and stays small."""
    history = NodeHistory()
    for milliseconds in (100, 1000):
        for _ in range(300):
            _delta(_run(_done("a", milliseconds))).add_to_nodes(history)
    assert Sketch.unpack(history.durations["a"]).count <= 256
    assert _median(history.durations["a"]) == pytest.approx(1000, rel=0.05)
    runs = RunHistory()
    for _ in range(3):
        _delta(*[_run() for _ in range(1000)]).add_to_runs(runs)
    assert runs.completed == 3000
    assert Sketch.unpack(runs.durations).count <= 1024


def test_old_skips_decay() -> None:
    """Later runs of the node must have an effect."""
    history = NodeHistory()
    _delta(*[_run(StepState("a", status="skipped")) for _ in range(10_000)]).add_to_nodes(history)
    for _ in range(20):
        _delta(_run(StepState("a", status="skipped"))).add_to_nodes(history)
    assert history.failures["a"].skipped <= 300


def test_encoding_is_lossless() -> None:
    """Minutes are keys of JSON objects, and sketches are lists."""
    run = _run(_done("a", 20), _done("b", 0), StepState("c", status="error"))
    assert decode_runs(encode_runs(_runs(run))) == _runs(run)
    assert decode_nodes(encode_nodes(_nodes(run))) == _nodes(run)


def test_runs_can_be_added_in_batches() -> None:
    """The result does not depend on the batches of the workers."""
    runs = [_run(_done("a", n + 1), _done("b", 7 * n)) for n in range(100)]
    history = NodeHistory()
    for run in runs:
        _delta(run).add_to_nodes(history)
    assert history == _nodes(*runs)


def test_a_delta_that_could_not_be_written_is_merged_with_the_next() -> None:
    """The result equals one delta of all runs."""
    early = [_run(_done("a", n), StepState("b", status="error"), ended=NOON) for n in range(30)]
    late = [_run(_done("a", 9 * n), _done("c", n), ended=NOON + 60) for n in range(30)]
    joined = _delta(*early)
    joined.merge(_delta(*late))
    runs, nodes = RunHistory(), NodeHistory()
    joined.add_to_runs(runs)
    joined.add_to_nodes(nodes)
    assert (runs, nodes) == (_runs(*early, *late), _nodes(*early, *late))
    joined.clear_nodes()
    written = NodeHistory()
    joined.add_to_nodes(written)
    assert not written.durations
    assert not written.failures


def test_the_history_of_the_largest_workflow_is_bounded() -> None:
    """Sketches become coarser first; then the fastest nodes are dropped."""
    delta = RunDelta()
    for factor in range(70, 131, 3):
        steps = [
            _done(f"some_rather_long_name_of_a_node_{n:05}", factor * n) for n in range(1, 10_001)
        ]
        delta.record_run(_run(*steps))
    history = NodeHistory()
    delta.add_to_nodes(history)
    assert len(msgspec.json.encode(history)) > MAX_BYTES
    stored = decode_nodes(encode_nodes(history))
    assert len(encode_nodes(stored)) <= MAX_BYTES
    assert len(stored.durations) > 5000
    assert "some_rather_long_name_of_a_node_10000" in stored.durations
    assert "some_rather_long_name_of_a_node_00001" not in stored.durations
    longest = Sketch.unpack(stored.durations["some_rather_long_name_of_a_node_10000"])
    assert longest.quantile(0.5) == pytest.approx(1_000_000, rel=longest.relative_error)
    assert longest.relative_error < 0.1
