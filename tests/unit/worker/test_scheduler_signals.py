"""The scheduler and waiting steps: decisions, triggers, times and child runs."""

from typing import Any

import pytest

from harness.models.scheduled_run import NOW, ScheduledRun
from tailrace_shared.execution.events import ExecutionCancelled, StepCompleted, StepFailed
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.decide.outcomes import Succeeded, completed
from tailrace_worker.nodes.waits import ForChild, ForSignal


def waiting(*names: str, signal: ForSignal = ForSignal(), **fields: Any) -> ScheduledRun:  # noqa: B008 - frozen
    """Return an execution whose steps wait for a signal."""
    nodes: dict[str, Any] = {name: {"type": "await", **fields} for name in names}
    after: dict[str, Any] = {f"after_{name}": {"needs": [name]} for name in names}
    run = ScheduledRun({**nodes, **after})
    run.decide()
    decided = [event for name in names for event in run.end(name, signal)]
    assert decided == ["execution:paused"]
    return run


def accept(run: ScheduledRun, step: str, **fields: Any) -> None:
    """Record the signal of a step, on which the driver has yet to decide."""
    run.scheduler.record(run.accepted_signal(step, **fields))


def test_a_decision_is_the_output_of_the_step_that_waited_for_it():
    """It includes the actor, and the data that they entered."""
    run = waiting("a")
    accept(run, "a", decision="approved", data={"x": 1}, actor="julia")
    assert run.decide() == ["execution:resumed", "completed:a", "started:after_a"]
    expected = {"decision": "approved", "data": {"x": 1}, "actor": "julia", "event": None}
    assert run.step("a").output == expected


def test_a_step_that_fails_says_whether_it_has_waited_and_which_stage_it_is():
    """A list of waiting steps must know which entries to remove."""
    refusing = ForSignal(on_reject="fail")
    run = waiting("a", signal=refusing, stage="approval")
    accept(run, "a", decision="rejected")
    end = next(event.data for event in run.scheduler.decide(NOW) if isinstance(event, StepFailed))
    assert (end.waited, end.stage) == (True, "approval")
    run = ScheduledRun({"b": {"type": "await", "when": "input.x", "stage": "approval"}})
    end = next(event.data for event in run.scheduler.decide(NOW) if isinstance(event, StepFailed))
    assert (end.waited, end.stage) == (False, "approval")


def test_the_end_of_a_wait_names_those_that_go_on():
    """Existing front ends forget all waits of the execution, and receive these again."""
    run = waiting("a", "b", "c", signal=ForSignal(reason="approval"))
    accept(run, "a", decision="approved")
    accept(run, "b", decision="approved")
    ends = [event.data for event in run.scheduler.decide(NOW) if isinstance(event, StepCompleted)]
    assert [end.node_id for end in ends] == ["a", "b"]
    (first, last) = (end.still_waiting for end in ends)
    assert first == []
    assert [(wait.node_id, wait.since, wait.reason) for wait in last] == [
        ("c", run.step("c").waiting_since, "approval")
    ]


def test_a_cancellation_names_the_steps_that_had_not_ended():
    """They have no event of their own."""
    run = ScheduledRun({"a": {"name": "First"}, "b": {"needs": ["a"]}})
    run.decide()
    run.cancel("enough")
    (event,) = run.scheduler.stopped(NOW)
    assert isinstance(event, ExecutionCancelled)
    (step,) = event.data.open_steps
    assert (step.node_id, step.name, step.attempt) == ("a", "First", 1)


def test_an_event_is_the_output_of_the_step_that_waited_for_it():
    """There is no decision."""
    run = waiting("a")
    accept(run, "a", event={"po": 1}, procedure="po.approved")
    run.decide()
    expected = {"decision": None, "data": None, "actor": None, "event": {"po": 1}}
    assert run.step("a").output == expected


@pytest.mark.parametrize(
    ("on_reject", "actor", "status", "error"),
    [
        ("continue", "julia", "success", None),
        ("fail", "julia", "error", "rejected by julia"),
        ("fail", "", "error", "rejected"),
    ],
)
def test_a_rejection_is_data_or_a_failure(on_reject: Any, actor: str, status: str, error: str):
    """The definition decides."""
    run = waiting("a", signal=ForSignal(on_reject=on_reject))
    accept(run, "a", decision="rejected", actor=actor)
    run.decide()
    step = run.step("a")
    assert (step.status, step.error) == (status, error)


def test_signals_that_came_together_are_all_applied_after_one_resume():
    """They are applied in the order of their arrival."""
    run = waiting("a", "b", "c")
    accept(run, "c")
    accept(run, "a")
    assert run.decide() == [
        "execution:resumed",
        "completed:c",
        "completed:a",
        "started:after_c",
        "started:after_a",
    ]
    assert list(run.scheduler.waiting) == ["b"]


@pytest.mark.parametrize(
    ("on_timeout", "events"),
    [
        ("fail", ["execution:resumed", "failed:a", "skipped:after_a", "execution:failed"]),
        ("continue", ["execution:resumed", "completed:a", "started:after_a"]),
        ("cancel", ["execution:resumed", "command:requested"]),
    ],
)
def test_a_timeout_does_what_the_definition_says(on_timeout: str, events: list[str]):
    """At its time and not before."""
    run = waiting("a", timeout="10s", on_timeout=on_timeout)
    assert run.due() == NOW + 10
    assert run.decide(NOW + 9.9) == []
    assert run.decide(NOW + 10) == events
    assert run.due() is None
    if on_timeout == "continue":
        assert run.step("a").output["decision"] == "timeout"
    if on_timeout == "cancel":
        assert run.state.cancel is not None
        assert run.state.cancel.data.reason == "a: timed out after 10s"
        assert run.stopped(NOW + 10) == ["execution:cancelled"]


@pytest.mark.parametrize("on_timeout", ["fail", "continue", "cancel"])
def test_a_signal_that_is_in_the_log_before_the_timeout_wins(on_timeout: str):
    """It wins even if it is not applied by then."""
    run = waiting("a", timeout="10s", on_timeout=on_timeout)
    accept(run, "a", decision="approved")
    events = run.decide(NOW + 20)
    assert events == ["execution:resumed", "completed:a", "started:after_a"]
    assert run.step("a").output["decision"] == "approved"
    assert run.due() is None


def test_a_timeout_of_one_branch_leaves_the_others_waiting():
    """The execution pauses again for them."""
    run = waiting("a", "b", timeout="10s", on_timeout="continue")
    run.step("b").due = None
    assert run.decide(NOW + 10) == [
        "execution:resumed",
        "completed:a",
        "started:after_a",
    ]
    run.scheduler.record(completed(run.step("after_a"), 1, format_timestamp(NOW + 10)))
    assert run.decide(NOW + 10) == ["execution:paused"]


def test_the_output_of_a_child_run_is_the_output_of_its_step():
    """A child run is not a signal, so its parent is not paused for it."""
    run = ScheduledRun({"a": {"type": "workflow", "with": {"id": "child"}}, "b": {"needs": ["a"]}})
    run.decide()
    assert run.end("a", ForChild("child", 1)) == []
    assert list(run.scheduler.waiting) == ["a"]
    assert run.end("a", Succeeded({"x": 1})) == ["started:b"]
    assert run.step("a").output == {"x": 1}
    assert not run.scheduler.waiting


def test_an_actors_step_waits_until_an_actor_begins():
    """First and again: no worker that drives runs anything of it."""
    run = ScheduledRun(
        {"a": {"type": "test.actor"}}, is_actor=lambda node_type: node_type == "test.actor"
    )
    assert run.decide() == ["execution:started", "waiting:a"]
    assert run.scheduler.attended == []
    (wait,) = [step.waiting for step in run.scheduler.waiting.values()]
    assert wait is not None
    assert (wait.wait, wait.attempt) == ("actor", 1)
    assert run.decide() == []


def test_a_signal_that_another_driver_has_applied_is_not_applied_again():
    """The first driver has read the other's commits, and must not resume the waiting step."""
    first, other = waiting("a", "b"), waiting("a", "b")
    read = len(other.log)
    other.record(other.accepted_signal("a", decision="approved"))
    other.succeed("after_a")
    assert other.state.status == "paused"
    for event in other.log[read:]:
        first.scheduler.record(event)
    assert first.decide() == []
