"""Estimates of the remaining time of an execution."""

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
        ([_done("a", 2)], 4.0),  # b and c in parallel, as long as a, then d
        ([_done("a", 2), _done("b", 10)], 4.0),  # c and d, both as fast as a
        ([_done("a", 2), _done("c", 4)], 6.0),  # b as fast as all, then d as fast as its kind
        ([_done("a", 2), _done("b", 10), _done("c", 2)], 2.0),
        ([_done("a", 2), StepState("b", "slow", "skipped"), _done("c", 4)], 3.0),
    ],
)
def test_the_longest_remaining_path_counts(steps: list[StepState], seconds: float | None) -> None:
    """A step takes the mean of its type so far, or of all steps."""
    assert _estimate(GRAPH, NODES, _state(*steps), NOW) == seconds


def test_elapsed_time_is_subtracted() -> None:
    """A running step has used part of its time; a waiting step has its timer ahead."""
    began = format_timestamp(NOW - 1.5)
    running = StepState("c", "fast", "running", started_at=began)
    steps = [_done("a", 2), _done("b", 10), running]
    assert _estimate(GRAPH, NODES, _state(*steps), NOW) == pytest.approx(2.5)
    waiting = StepState("c", "fast", "waiting", started_at=began, due=NOW + 30)
    assert _estimate(GRAPH, NODES, _state(*steps[:2], waiting), NOW) == 32.0
    again = StepState("c", "fast", "retrying", due=NOW + 30)
    assert _estimate(GRAPH, NODES, _state(*steps[:2], again), NOW) == 34.0


def test_waits_for_decisions_do_not_count() -> None:
    """Their time is unknown, and earlier waits predict nothing."""
    graph = sort_graph({"a": [], "ask": ["a"], "b": ["ask"]})
    nodes = {"a": Node("fast"), "ask": Node("await"), "b": Node("fast")}
    signal = StepWait("ask", "await", "waiting", wait="signal")
    asking = StepState("ask", "await", "waiting", due=NOW + 86400, waiting=signal)
    assert _estimate(graph, nodes, _state(_done("a", 2)), NOW) == 2.0
    assert _estimate(graph, nodes, _state(_done("a", 2), asking), NOW) == 2.0
    asked = StepState("ask", "await", "success", duration_ms=86_400_000)
    assert _estimate(graph, nodes, _state(_done("a", 2), asked), NOW) == 2.0


def test_an_execution_that_has_ended_has_no_remaining_time() -> None:
    """The states of its steps do not matter."""
    assert _estimate(GRAPH, NODES, _state(status="failed"), NOW) == 0.0


def _history(**seconds: Sequence[float]) -> NodeHistory:
    """Return a history in which the nodes took these seconds."""
    durations = {
        node: Sketch.of([1000 * second for second in some]).pack() for node, some in seconds.items()
    }
    return NodeHistory(durations)


def _left(state: ExecutionState, history: NodeHistory, now: float = NOW) -> float | None:
    return _estimate(GRAPH, NODES, state, now, history)


def _running(node: str, elapsed: float, **fields: Any) -> StepState:
    began = format_timestamp(NOW - elapsed)
    return StepState(node, TYPES[node], "running", started_at=began, **fields)


def test_earlier_runs_give_an_estimate_before_a_step_has_ended() -> None:
    """The estimate is the longest path of earlier durations."""
    history = _history(a=[2], b=[10], c=[3], d=[1])
    assert _left(_state(status="queued"), history) == pytest.approx(13, rel=0.02)
    assert _left(_state(_done("a", 2)), history) == pytest.approx(11, rel=0.02)


def test_a_join_of_many_nodes_expects_a_late_one() -> None:
    """The longest path of medians would assume that all are on time."""
    graph = sort_graph({f"n{n}": [] for n in range(40)} | {"end": [f"n{n}" for n in range(40)]})
    nodes = {node: Node("work") for node in graph.needs}
    took = [random.Random(n).lognormvariate(3, 0.5) for n in range(50)]
    history = _history(end=[1], **{f"n{n}": took for n in range(40)})
    left = _estimate(graph, nodes, _state(), NOW, history)
    assert left is not None
    assert left > 2 * median(took)
    assert left < 1.1 * max(took)


def test_an_overdue_step_is_not_about_to_end() -> None:
    """It takes one of its longer durations, or a share of its time again beyond all of them."""
    history = _history(a=[1], b=[10] * 5 + [20] * 5, c=[1], d=[5])
    ended = [_done("a", 1), _done("c", 1)]
    assert _left(_state(*ended, _running("b", 2)), history) == pytest.approx(16, rel=0.5)
    assert _left(_state(*ended, _running("b", 15)), history) == pytest.approx(12, rel=0.2)
    assert _left(_state(*ended, _running("b", 100)), history) == pytest.approx(33, rel=0.4)


def test_reported_progress_is_trusted_gradually() -> None:
    """At one percent it is ignored; at ninety it dominates."""
    history = _history(a=[1], b=[10], c=[1], d=[5])
    ended = [_done("a", 1), _done("c", 1)]
    early = _left(_state(*ended, _running("b", 2, percent=1.0)), history)
    late = _left(_state(*ended, _running("b", 9, percent=90.0)), history)
    slow = _left(_state(*ended, _running("b", 90, percent=90.0)), history)
    assert early == pytest.approx(13, rel=0.1)
    assert late == pytest.approx(6, rel=0.1)
    assert slow is not None
    assert slow > 14


def test_a_slow_run_stays_slow() -> None:
    """The slowdown of finished steps applies to the rest."""
    graph = sort_graph({f"n{n}": [f"n{n - 1}"] if n else [] for n in range(20)})
    nodes = {node: Node("fast") for node in graph.needs}
    history = _history(**{node: [1.0] for node in graph.needs})
    ended = [StepState(f"n{n}", "fast", "success", duration_ms=3000) for n in range(10)]
    left = _estimate(graph, nodes, _state(*ended), NOW, history)
    assert left is not None
    assert 20 < left < 30


def test_variance_between_runs_does_not_add_up_within_one() -> None:
    """If all steps are slow together, no single slow step is expected."""
    names = [f"n{n}" for n in range(40)]
    graph = sort_graph({name: [] for name in names})
    nodes = {name: Node("work") for name in names}
    factors = [0.5 + n / 20 for n in range(21)]
    history = _history(**{name: [10 * factor for factor in factors] for name in names})
    apart = _estimate(graph, nodes, _state(), NOW, history)
    history.work = Sketch.of([400_000 * factor for factor in factors]).pack()
    together = _estimate(graph, nodes, _state(), NOW, history)
    assert together == pytest.approx(10, rel=0.1)
    assert apart == pytest.approx(15, rel=0.1)


def test_skips_count_by_their_frequency() -> None:
    """The condition is unknown until it is evaluated."""
    history = _history(a=[1], b=[100], c=[1], d=[1])
    history.failures["b"] = FailureCounts(skipped=9)
    assert _left(_state(), history) == pytest.approx(3, rel=0.1)
    history.failures["b"] = FailureCounts(skipped=0, retries=3)
    assert _left(_state(), history) == pytest.approx(102, rel=0.1)


def test_pending_steps_include_the_mean_cost_of_retries() -> None:
    """The cost includes the delays between attempts."""
    history = _history(a=[1] * 4, b=[10] * 4, c=[1] * 4, d=[1] * 4)
    history.failures["b"] = FailureCounts(retries=4, lost_ms=20_000)
    assert _left(_state(), history) == pytest.approx(17, rel=0.02)


def test_the_rest_of_a_map_runs_in_parallel() -> None:
    """Four of ten items have ended, two are running and four are pending, two at a time."""
    graph = sort_graph({"m": []})
    work = {"for_each": "input", "max_parallel": 2, "do": {"type": "work"}}
    nodes = {"m": Node("map", parameters=work)}
    history = _history(**{items_key("m"): [10.0], "m": [50.0]})
    pending = _estimate(graph, nodes, _state(), NOW, history)
    assert pending == pytest.approx(50, rel=0.02)
    began = format_timestamp(NOW - 5)
    mapping = StepState("m", "map", "running", started_at=began, items=list(range(10)))
    ended = [StepState(f"m[{n}]", "work", "success", duration_ms=10_000) for n in range(4)]
    running = [StepState(f"m[{n}]", "work", "running", started_at=began) for n in (4, 5)]
    state = _state(mapping, *ended, *running)
    left = _estimate(graph, nodes, state, NOW, history)
    assert left == pytest.approx(25, rel=0.05)
    assert _estimate(graph, nodes, state, NOW) == pytest.approx(25, rel=0.05)


def test_a_child_run_takes_the_earlier_durations_of_its_step() -> None:
    """The steps of the child run do not matter."""
    history = _history(a=[1], b=[60], c=[1], d=[1])
    wait = StepWait("b", "slow", "waiting", wait="child")
    began = format_timestamp(NOW - 20)
    child = StepState("b", "slow", "waiting", started_at=began, waiting=wait)
    left = _left(_state(_done("a", 1), _done("c", 1), child), history)
    assert left == pytest.approx(41, rel=0.05)


def test_a_new_node_takes_as_long_as_its_type() -> None:
    """From this run, else from earlier runs; otherwise there is no estimate."""
    history = _history(a=[1], c=[1], d=[1])
    assert _left(_state(), history) is None
    history.types["slow"] = Sketch.of([30_000]).pack()
    assert _left(_state(), history) == pytest.approx(32, rel=0.02)


def test_an_any_join_starts_after_its_first_need() -> None:
    """The other needs continue in parallel."""
    graph = sort_graph({"a": [], "b": [], "end": ["a", "b"]})
    nodes = {"a": Node("x"), "b": Node("x"), "end": Node("x", join="any")}
    history = _history(a=[10], b=[40], end=[100])
    left = _estimate(graph, nodes, _state(), NOW, history)
    assert left == pytest.approx(110, rel=0.02)


@pytest.mark.parametrize("trace", sorted(TRACES.glob("*.json")), ids=lambda path: path.stem[:12])
def test_estimates_improve_with_more_runs(trace: Path) -> None:
    """Measured on recorded workflows with random durations, in virtual time."""
    found = errors(recorded_workflow(trace), Chance(), runs=(0, 1, 20), trials=20, pasts=5)
    none, one, many = (
        fmean(1.0 if error is None else error for error in found[runs].values())
        for runs in (0, 1, 20)
    )
    assert many < one < none
    assert many < 0.25
