"""How long an execution still takes, from how long its steps took so far."""

import pytest

from tailrace_shared.execution.estimate import remaining_seconds
from tailrace_shared.execution.events import StepWait, format_timestamp
from tailrace_shared.execution.state import ExecutionState, ExecutionStatus, StepState
from tailrace_shared.workflow.graph import sort_graph

NOW = 1_700_000_000.0
GRAPH = sort_graph({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
TYPES = {"a": "fast", "b": "slow", "c": "fast", "d": "fast"}


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
    assert remaining_seconds(GRAPH, TYPES, _state(*steps), NOW) == seconds


def test_what_has_run_or_waited_already_is_taken_off() -> None:
    """A running step has a part behind it; a waiting one has its time before it."""
    began = format_timestamp(NOW - 1.5)
    running = StepState("c", "fast", "running", started_at=began)
    steps = [_done("a", 2), _done("b", 10), running]
    assert remaining_seconds(GRAPH, TYPES, _state(*steps), NOW) == pytest.approx(2.5)
    waiting = StepState("c", "fast", "waiting", started_at=began, due=NOW + 30)
    assert remaining_seconds(GRAPH, TYPES, _state(*steps[:2], waiting), NOW) == 32.0
    again = StepState("c", "fast", "retrying", due=NOW + 30)
    assert remaining_seconds(GRAPH, TYPES, _state(*steps[:2], again), NOW) == 34.0


def test_what_waits_for_a_decision_is_not_counted() -> None:
    """Nobody knows when it comes, and how long others took tells nothing."""
    graph = sort_graph({"a": [], "ask": ["a"], "b": ["ask"]})
    types = {"a": "fast", "ask": "await", "b": "fast"}
    signal = StepWait("ask", "await", "waiting", wait="signal")
    asking = StepState("ask", "await", "waiting", due=NOW + 86400, waiting=signal)
    assert remaining_seconds(graph, types, _state(_done("a", 2)), NOW) == 2.0
    assert remaining_seconds(graph, types, _state(_done("a", 2), asking), NOW) == 2.0
    asked = StepState("ask", "await", "success", duration_ms=86_400_000)
    assert remaining_seconds(graph, types, _state(_done("a", 2), asked), NOW) == 2.0


def test_nothing_is_left_of_an_execution_that_has_ended() -> None:
    """Whatever its steps say."""
    assert remaining_seconds(GRAPH, TYPES, _state(status="failed"), NOW) == 0.0
