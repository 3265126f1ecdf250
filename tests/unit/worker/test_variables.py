"""The variables of a wait are small outputs of the newest steps."""

from typing import Any

from tailrace_shared.execution import events as ev
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_worker.engine.decide.variables import MAX_BYTES, variables_of

NOW = "2024-01-15T10:30:00.000Z"


def state(*steps: tuple[str, Any], **fields: Any) -> ExecutionState:
    """Return a run whose steps have succeeded with some outputs, in this order."""
    queued = ev.Queued("e", "w", "W", 1, {}, "queued")
    events: list[ev.Event] = [
        ev.ExecutionQueued(queued, NOW),
        ev.ExecutionStarted(ev.Started("e", "running", NOW), NOW),
    ]
    for node, output in steps:
        begun = ev.StepBegun(node, "transform", "running", 1, NOW)
        done = ev.StepDone(node, "transform", "success", 1, NOW, NOW, 0, output, **fields)
        events += [ev.StepStarted(begun, NOW), ev.StepCompleted(done, NOW)]
    return fold(events)


def test_outputs_are_shown_by_node() -> None:
    """But for those that say nothing."""
    found = variables_of(state(("a", {"total": 3}), ("b", None), ("c", 0)))
    assert list(found.items()) == [("a", {"total": 3}), ("c", 0)]


def test_sensitive_values_are_masked() -> None:
    """Nothing computes with what a wait shows."""
    found = variables_of(state(("a", {"card": "4111", "total": 3}), sensitive=["/card"]))
    assert found == {"a": {"card": "***", "total": 3}}


def test_outputs_that_are_large_or_old_are_left_out() -> None:
    """The newest come first; a large one leaves room for the others."""
    third = "x" * (MAX_BYTES // 3)
    names = ["a", "b", "c", "d"]
    assert list(variables_of(state(*((name, third) for name in names)))) == ["c", "d"]
    assert variables_of(state(("a", 1), ("b", "x" * MAX_BYTES))) == {"a": 1}
    assert variables_of(state(("a", 1), *((f"n{number}", 2) for number in range(64)))).get("a") is (
        None
    )


def test_outputs_elsewhere_and_of_items_are_left_out() -> None:
    """They are not in the log, or belong to their map."""
    ref = ev.OutputRef("o", 1_000_000)
    assert variables_of(state(("a", None), output_ref=ref)) == {}
    assert variables_of(state(("m[0]", 1))) == {}


def test_waits_that_go_on_share_equal_variables() -> None:
    """Each names its place in a list of different ones."""
    run = state(("a", 1))
    for node, variables in (("x", {"a": 1}), ("y", {"a": 1}), ("z", {}), ("v", {"b": 2})):
        begun = ev.StepBegun(node, "await", "running", 1, NOW)
        wait = ev.StepWait(node, "await", "waiting", wait="signal", variables=variables)
        run.apply(ev.StepStarted(begun, NOW))
        run.apply(ev.StepWaiting(wait, NOW))
    waits, shared = run.open_waits(10)
    assert shared == [{"a": 1}, {"b": 2}]
    assert [(wait.node_id, wait.variables) for wait in waits] == [
        ("x", 0),
        ("y", 0),
        ("z", -1),
        ("v", 1),
    ]
