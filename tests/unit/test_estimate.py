"""How long an execution still takes, from how long its steps took so far."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest

from harness.models.eta_errors import TRACES, Chance, errors, recorded_workflow
from tailrace_shared.estimation import Estimator, FailureCounts, NodeHistory, Sketch, items_key
from tailrace_shared.execution.events import StepWait
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.execution.transitions import ExecutionStatus
from tailrace_shared.workflow.definition import Node
from tailrace_shared.workflow.graph import Graph, sort_graph

NOW = 1_700_000_000.0
GRAPH = sort_graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
TYPES = {"a": "fast", "b": "slow", "c": "fast", "d": "fast"}
NODES = {node: Node(node_type) for node, node_type in TYPES.items()}


def _estimate(
    graph: Graph,
    nodes: Mapping[str, Node],
    state: ExecutionState,
    now: float,
    history: NodeHistory | None = None,
) -> float | None:
    return Estimator(graph, nodes, history).remaining_seconds(state, now)


def _state(*steps: StepState, status: ExecutionStatus = "running") -> ExecutionState:
    return ExecutionState(status=status, steps={step.node_id: step for step in steps})


def _done(node: str, seconds: float) -> StepState:
    return StepState(node, TYPES[node], "success", duration_ms=int(seconds * 1000))


@pytest.mark.parametrize(
    ("steps", "seconds"),
    [
        ([], None),
        ([StepState("a", "fast", "running")], None),
        ([_done("a", 2)], 4.0),  # b and c beside each other as long as a, then d
        ([_done("a", 2), _done("b", 10)], 4.0),  # c and d, both as fast as a
        ([_done("a", 2), _done("c", 4)], 6.0),  # b as fast as all, then d as fast as its kind
        ([_done("a", 2), _done("b", 10), _done("c", 2)], 2.0),
        ([_done("a", 2), StepState("b", "slow", "skipped"), _done("c", 4)], 3.0),
    ],
)
def test_the_longest_path_that_is_left_counts(
    steps: list[StepState], seconds: float | None
) -> None:
    """Each step is as long as its kind was so far, or as all were."""
    assert _estimate(GRAPH, NODES, _state(*steps), NOW) == seconds


def test_what_has_run_or_waited_already_is_taken_off() -> None:
    """A running step has a part behind it; a waiting one has its time before it."""
    began = format_timestamp(NOW - 1.5)
    running = StepState("c", "fast", "running", started_at=began)
    steps = [_done("a", 2), _done("b", 10), running]
    assert _estimate(GRAPH, NODES, _state(*steps), NOW) == pytest.approx(2.5)
    waiting = StepState("c", "fast", "waiting", started_at=began, due=NOW + 30)
    assert _estimate(GRAPH, NODES, _state(*steps[:2], waiting), NOW) == 32.0
    again = StepState("c", "fast", "retrying", due=NOW + 30)
    assert _estimate(GRAPH, NODES, _state(*steps[:2], again), NOW) == 34.0


def test_what_waits_for_a_decision_is_not_counted() -> None:
    """Nobody knows when it comes, and how long others took tells nothing."""
    graph = sort_graph({"a": [], "ask": ["a"], "b": ["ask"]})
    nodes = {"a": Node("fast"), "ask": Node("await"), "b": Node("fast")}
    signal = StepWait("ask", "await", "waiting", wait="signal")
    asking = StepState("ask", "await", "waiting", due=NOW + 86400, waiting=signal)
    assert _estimate(graph, nodes, _state(_done("a", 2)), NOW) == 2.0
    assert _estimate(graph, nodes, _state(_done("a", 2), asking), NOW) == 2.0
    asked = StepState("ask", "await", "success", duration_ms=86_400_000)
    assert _estimate(graph, nodes, _state(_done("a", 2), asked), NOW) == 2.0


def test_nothing_is_left_of_an_execution_that_has_ended() -> None:
    """Whatever its steps say."""
    assert _estimate(GRAPH, NODES, _state(status="failed"), NOW) == 0.0


def _record(**seconds: Sequence[float]) -> NodeHistory:
    """Return what is remembered after runs in which nodes took so long."""
    durations = {
        node: Sketch.of([1000 * second for second in some]).pack() for node, some in seconds.items()
    }
    return NodeHistory(durations)


def _left(state: ExecutionState, record: NodeHistory, now: float = NOW) -> float | None:
    return _estimate(GRAPH, NODES, state, now, record)


def _running(node: str, elapsed: float, **fields: Any) -> StepState:
    began = format_timestamp(NOW - elapsed)
    return StepState(node, TYPES[node], "running", started_at=began, **fields)


def test_earlier_runs_tell_before_a_step_has_ended() -> None:
    """The longest path of what the nodes have taken."""
    record = _record(a=[2], b=[10], c=[3], d=[1])
    assert _left(_state(status="queued"), record) == pytest.approx(13, rel=0.02)
    assert _left(_state(_done("a", 2)), record) == pytest.approx(11, rel=0.02)


def test_where_many_are_joined_one_is_expected_to_be_late() -> None:
    """The longest path of medians would take it that all are on time."""
    graph = sort_graph({f"n{n}": [] for n in range(40)} | {"end": [f"n{n}" for n in range(40)]})
    nodes = {node: Node("work") for node in graph.needs}
    took = [random.Random(n).lognormvariate(3, 0.5) for n in range(50)]
    record = _record(end=[1], **{f"n{n}": took for n in range(40)})
    left = _estimate(graph, nodes, _state(), NOW, record)
    assert left is not None
    assert left > 2 * median(took)
    assert left < 1.1 * max(took)


def test_a_step_that_takes_longer_than_it_used_to_is_not_about_to_end() -> None:
    """It takes the longer of its times; beyond all of them a share of its time again."""
    record = _record(a=[1], b=[10] * 5 + [20] * 5, c=[1], d=[5])
    ended = [_done("a", 1), _done("c", 1)]
    assert _left(_state(*ended, _running("b", 2)), record) == pytest.approx(16, rel=0.5)
    assert _left(_state(*ended, _running("b", 15)), record) == pytest.approx(12, rel=0.2)
    assert _left(_state(*ended, _running("b", 100)), record) == pytest.approx(33, rel=0.4)


def test_a_step_that_tells_how_far_it_is_is_believed_by_and_by() -> None:
    """At one percent not at all, at ninety almost wholly."""
    record = _record(a=[1], b=[10], c=[1], d=[5])
    ended = [_done("a", 1), _done("c", 1)]
    early = _left(_state(*ended, _running("b", 2, percent=1.0)), record)
    late = _left(_state(*ended, _running("b", 9, percent=90.0)), record)
    slow = _left(_state(*ended, _running("b", 90, percent=90.0)), record)
    assert early == pytest.approx(13, rel=0.1)
    assert late == pytest.approx(6, rel=0.1)
    assert slow is not None
    assert slow > 14


def test_a_run_that_is_slow_stays_slow() -> None:
    """What has ended tells how long the rest will take."""
    graph = sort_graph({f"n{n}": [f"n{n - 1}"] if n else [] for n in range(20)})
    nodes = {node: Node("fast") for node in graph.needs}
    record = _record(**{node: [1.0] for node in graph.needs})
    ended = [StepState(f"n{n}", "fast", "success", duration_ms=3000) for n in range(10)]
    left = _estimate(graph, nodes, _state(*ended), NOW, record)
    assert left is not None
    assert 20 < left < 30


def test_what_only_differs_between_runs_does_not_add_up_within_one() -> None:
    """Where all steps are slow together, it is not always some step that is."""
    names = [f"n{n}" for n in range(40)]
    graph = sort_graph({name: [] for name in names})
    nodes = {name: Node("work") for name in names}
    factors = [0.5 + n / 20 for n in range(21)]
    record = _record(**{name: [10 * factor for factor in factors] for name in names})
    apart = _estimate(graph, nodes, _state(), NOW, record)
    record.work = Sketch.of([400_000 * factor for factor in factors]).pack()
    together = _estimate(graph, nodes, _state(), NOW, record)
    assert together == pytest.approx(10, rel=0.1)
    assert apart == pytest.approx(15, rel=0.1)


def test_a_node_that_is_mostly_skipped_is_mostly_not_counted() -> None:
    """Whether its condition holds nobody knows before it is asked."""
    record = _record(a=[1], b=[100], c=[1], d=[1])
    record.failures["b"] = FailureCounts(skipped=9)
    assert _left(_state(), record) == pytest.approx(3, rel=0.1)
    record.failures["b"] = FailureCounts(skipped=0, retries=3)
    assert _left(_state(), record) == pytest.approx(102, rel=0.1)


def test_what_retries_have_cost_is_counted_for_steps_to_come() -> None:
    """On average of the runs, waits between attempts included."""
    record = _record(a=[1] * 4, b=[10] * 4, c=[1] * 4, d=[1] * 4)
    record.failures["b"] = FailureCounts(retries=4, lost_ms=20_000)
    assert _left(_state(), record) == pytest.approx(17, rel=0.02)


def test_the_rest_of_a_map_is_shared_by_its_lanes() -> None:
    """Four of ten items are over, two run, four are to come, two at a time."""
    graph = sort_graph({"m": []})
    work = {"for_each": "input", "max_parallel": 2, "do": {"type": "work"}}
    nodes = {"m": Node("map", parameters=work)}
    record = _record(**{items_key("m"): [10.0], "m": [50.0]})
    pending = _estimate(graph, nodes, _state(), NOW, record)
    assert pending == pytest.approx(50, rel=0.02)
    began = format_timestamp(NOW - 5)
    mapping = StepState("m", "map", "running", started_at=began, items=list(range(10)))
    ended = [StepState(f"m[{n}]", "work", "success", duration_ms=10_000) for n in range(4)]
    running = [StepState(f"m[{n}]", "work", "running", started_at=began) for n in (4, 5)]
    state = _state(mapping, *ended, *running)
    left = _estimate(graph, nodes, state, NOW, record)
    assert left == pytest.approx(25, rel=0.05)
    assert _estimate(graph, nodes, state, NOW) == pytest.approx(25, rel=0.05)


def test_a_child_run_takes_as_long_as_its_step_has_taken() -> None:
    """Its own steps are its own run's affair."""
    record = _record(a=[1], b=[60], c=[1], d=[1])
    wait = StepWait("b", "slow", "waiting", wait="child")
    began = format_timestamp(NOW - 20)
    child = StepState("b", "slow", "waiting", started_at=began, waiting=wait)
    left = _left(_state(_done("a", 1), _done("c", 1), child), record)
    assert left == pytest.approx(41, rel=0.05)


def test_a_node_that_is_new_takes_as_long_as_its_kind() -> None:
    """In this run, or where none has ended in it in earlier ones; or there is no estimate."""
    record = _record(a=[1], c=[1], d=[1])
    assert _left(_state(), record) is None
    record.types["slow"] = Sketch.of([30_000]).pack()
    assert _left(_state(), record) == pytest.approx(32, rel=0.02)


def test_whichever_comes_first_ends_the_wait_of_an_any_join() -> None:
    """The others go on beside it."""
    graph = sort_graph({"a": [], "b": [], "end": ["a", "b"]})
    nodes = {"a": Node("x"), "b": Node("x"), "end": Node("x", join="any")}
    record = _record(a=[10], b=[40], end=[100])
    left = _estimate(graph, nodes, _state(), NOW, record)
    assert left == pytest.approx(110, rel=0.02)


@pytest.mark.parametrize("trace", sorted(TRACES.glob("*.json")), ids=lambda path: path.stem[:12])
def test_estimates_get_better_as_runs_accumulate(trace: Path) -> None:
    """On recorded workflows whose tasks take as long as chance has it, in virtual time."""
    found = errors(recorded_workflow(trace), Chance(), runs=(0, 1, 20), trials=20, pasts=5)
    none, one, many = (
        fmean(1.0 if error is None else error for error in found[runs].values())
        for runs in (0, 1, 20)
    )
    assert many < one < none
    assert many < 0.25
