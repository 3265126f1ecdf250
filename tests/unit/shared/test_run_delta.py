"""What finished runs leave behind: tallies, and the records that they are added to."""

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


def _tally(*runs: ExecutionState) -> RunDelta:
    delta = RunDelta()
    for run in runs:
        delta.record_run(run)
    return delta


def _nodes(*runs: ExecutionState) -> NodeHistory:
    record = NodeHistory()
    _tally(*runs).add_to_nodes(record)
    return record


def _runs(*runs: ExecutionState) -> RunHistory:
    record = RunHistory()
    _tally(*runs).add_to_runs(record)
    return record


def _median(packed: list[int]) -> float | None:
    return Sketch.unpack(packed).quantile(0.5)


def test_runs_are_counted_by_how_and_when_they_ended() -> None:
    """By the minute for an hour, and in all."""
    record = _runs(_run(), _run(), _run(status="failed", ended=NOON + 60), _run(status="cancelled"))
    assert (record.completed, record.failed, record.cancelled) == (2, 1, 1)
    minute = int(NOON // 60)
    assert record.minutes == {minute: (2, 0, 1), minute + 1: (0, 1, 0)}
    _tally(_run(ended=NOON + 3600)).add_to_runs(record)
    assert record.minutes == {minute + 1: (0, 1, 0), minute + 60: (1, 0, 0)}
    assert record.completed == 3


def test_only_what_succeeded_tells_how_long_things_take() -> None:
    """How soon a run or a step fails says nothing of that."""
    failed = _run(_done("a", 20), StepState("b", "simulate", "error"), status="failed")
    runs, nodes = _runs(_run(_done("a", 40)), failed), _nodes(_run(_done("a", 40)), failed)
    assert _median(runs.durations) == pytest.approx(1000, rel=0.01)
    assert Sketch.unpack(runs.durations).count == 1
    assert Sketch.unpack(nodes.durations["a"]).count == 2
    assert nodes.failures == {"b": FailureCounts(failed=1)}


def test_the_items_of_a_map_are_remembered_together() -> None:
    """However many there are, and beside the map as a whole."""
    items = [_done(f"m[{index}]", 100) for index in range(50)]
    record = _nodes(_run(_done("m", 5000, "map"), *items))
    assert set(record.durations) == {"m", items_key("m")}
    assert Sketch.unpack(record.durations[items_key("m")]).count == 50
    assert _median(record.durations["m"]) == pytest.approx(5000, rel=0.01)


def test_retries_and_the_time_that_they_took_are_told_apart_from_what_works() -> None:
    """A duration is the successful attempt's; what went before it is trouble."""
    begun, started = format_timestamp(NOON), format_timestamp(NOON + 3)
    step = _done("a", 500, failures=1, crashes=1, begun_at=begun, started_at=started)
    record = _nodes(_run(step, StepState("b", "simulate", "skipped")))
    assert record.failures["a"] == FailureCounts(retries=2, lost_ms=3000)
    assert record.failures["b"] == FailureCounts(skipped=1)
    assert _median(record.durations["a"]) == pytest.approx(500, rel=0.01)


def test_what_people_decide_and_what_a_rerun_keeps_says_nothing_of_steps() -> None:
    """The one is not work, the other another run's."""
    run = _run(_done("ask", 10**8, "await"), _done("a", 100), _done("b", 900, kept_from="e0"))
    runs, nodes = _runs(run), _nodes(run)
    assert set(nodes.durations) == {"ask", "a"}
    assert set(nodes.types) == {"simulate"}
    assert Sketch.unpack(runs.steps).count == 1
    assert _median(nodes.work) == pytest.approx(100, rel=0.01)


def test_what_is_old_fades() -> None:
    """A node that has become slower is soon remembered as slow, in a record that stays small."""
    record = NodeHistory()
    for milliseconds in (100, 1000):
        for _ in range(300):
            _tally(_run(_done("a", milliseconds))).add_to_nodes(record)
    assert Sketch.unpack(record.durations["a"]).count <= 256
    assert _median(record.durations["a"]) == pytest.approx(1000, rel=0.05)
    runs = RunHistory()
    for _ in range(3):
        _tally(*[_run() for _ in range(1000)]).add_to_runs(runs)
    assert runs.completed == 3000
    assert Sketch.unpack(runs.durations).count <= 1024


def test_a_node_that_is_always_skipped_does_not_weigh_for_ever() -> None:
    """Once it runs, that counts as well."""
    record = NodeHistory()
    _tally(*[_run(StepState("a", status="skipped")) for _ in range(10_000)]).add_to_nodes(record)
    for _ in range(20):
        _tally(_run(StepState("a", status="skipped"))).add_to_nodes(record)
    assert record.failures["a"].skipped <= 300


def test_records_come_back_as_they_were_written() -> None:
    """A minute's number is a key of JSON, a sketch a list."""
    run = _run(_done("a", 20), _done("b", 0), StepState("c", status="error"))
    assert decode_runs(encode_runs(_runs(run))) == _runs(run)
    assert decode_nodes(encode_nodes(_nodes(run))) == _nodes(run)


def test_adding_all_at_once_is_adding_one_by_one() -> None:
    """So it does not matter how often a worker writes, nor which one."""
    runs = [_run(_done("a", n + 1), _done("b", 7 * n)) for n in range(100)]
    record = NodeHistory()
    for run in runs:
        _tally(run).add_to_nodes(record)
    assert record == _nodes(*runs)


def test_a_tally_that_could_not_be_written_is_joined_with_the_next() -> None:
    """As if all of it had been noted in one."""
    early = [_run(_done("a", n), StepState("b", status="error"), ended=NOON) for n in range(30)]
    late = [_run(_done("a", 9 * n), _done("c", n), ended=NOON + 60) for n in range(30)]
    joined = _tally(*early)
    joined.merge(_tally(*late))
    runs, nodes = RunHistory(), NodeHistory()
    joined.add_to_runs(runs)
    joined.add_to_nodes(nodes)
    assert (runs, nodes) == (_runs(*early, *late), _nodes(*early, *late))
    joined.clear_nodes()
    told = NodeHistory()
    joined.add_to_nodes(told)
    assert not told.durations
    assert not told.failures


def test_a_record_of_the_largest_workflow_is_not_too_large() -> None:
    """It becomes coarser first, and then forgets the nodes that take the least time."""
    delta = RunDelta()
    for factor in range(70, 131, 3):
        steps = [
            _done(f"some_rather_long_name_of_a_node_{n:05}", factor * n) for n in range(1, 10_001)
        ]
        delta.record_run(_run(*steps))
    record = NodeHistory()
    delta.add_to_nodes(record)
    assert len(msgspec.json.encode(record)) > MAX_BYTES
    stored = decode_nodes(encode_nodes(record))
    assert len(encode_nodes(stored)) <= MAX_BYTES
    assert len(stored.durations) > 5000
    assert "some_rather_long_name_of_a_node_10000" in stored.durations
    assert "some_rather_long_name_of_a_node_00001" not in stored.durations
    longest = Sketch.unpack(stored.durations["some_rather_long_name_of_a_node_10000"])
    assert longest.quantile(0.5) == pytest.approx(1_000_000, rel=longest.relative_error)
    assert longest.relative_error < 0.1
