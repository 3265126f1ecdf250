"""The scheduler and steps that wait: for decisions, triggers, times and child runs."""

from typing import Any

import pytest

from harness.generators.workflows import definition
from tailrace_shared.execution.commands import create, request_resolve
from tailrace_shared.execution.events import Command, Event, StepEvent, StepFailed
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.decide.outcomes import Succeeded, completed, end_event
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.nodes.waits import ForChild, ForSignal

NOW = 1_700_000_000.0


def short(events: list[Event]) -> list[str]:
    """Write events as `type:node`, for comparing."""
    return [
        f"{str(type(event).__struct_config__.tag).partition(':')[2]}:{event.data.node_id}"
        if isinstance(event, StepEvent)
        else str(type(event).__struct_config__.tag)
        for event in events
    ]


def waiting(*names: str, signal: ForSignal = ForSignal(), **fields: Any) -> Scheduler:  # noqa: B008 - frozen
    """Return a scheduler for an execution whose steps wait for a signal."""
    nodes: dict[str, Any] = {name: {"type": "await", **fields} for name in names}
    after: dict[str, Any] = {f"after_{name}": {"needs": [name]} for name in names}
    workflow = definition({**nodes, **after})
    scheduler = Scheduler(Plan(workflow), fold([create("e1", workflow, 1, None, NOW)]))
    scheduler.decide(NOW)
    for name in names:
        step = scheduler.state.steps[name]
        scheduler.record(end_event(step, signal, workflow.nodes[name], NOW, 0.0))
    assert short(scheduler.decide(NOW)) == ["execution:paused"]
    return scheduler


def signal(scheduler: Scheduler, step: str, **fields: Any) -> None:
    """Record the signal for a step."""
    command = Command("e1", "resolve", f"c-{step}", node_id=step, **fields)
    accepted = request_resolve(scheduler.state, command, NOW)
    assert accepted is not None
    scheduler.record(accepted)


def due(scheduler: Scheduler) -> float | None:
    """Return when the next timer is due."""
    return scheduler.next_due


def output(state: ExecutionState, step: str) -> Any:
    """Return a step's output."""
    return state.steps[step].output


def test_a_decision_is_the_output_of_the_step_that_waited_for_it():
    """With the actor, and the data that they entered."""
    scheduler = waiting("a")
    signal(scheduler, "a", decision="approved", data={"x": 1}, actor="julia")
    assert short(scheduler.decide(NOW)) == ["execution:resumed", "completed:a", "started:after_a"]
    expected = {"decision": "approved", "data": {"x": 1}, "actor": "julia", "event": None}
    assert output(scheduler.state, "a") == expected


def test_a_step_that_fails_says_whether_it_has_waited_and_which_stage_it_is():
    """A list of waiting steps must know which entries to remove."""
    refusing = ForSignal(on_reject="fail")
    scheduler = waiting("a", signal=refusing, stage="approval")
    signal(scheduler, "a", decision="rejected")
    end = next(event.data for event in scheduler.decide(NOW) if isinstance(event, StepFailed))
    assert (end.waited, end.stage) == (True, "approval")
    workflow = definition({"b": {"type": "await", "when": "input.x", "stage": "approval"}})
    scheduler = Scheduler(Plan(workflow), fold([create("e1", workflow, 1, None, NOW)]))
    end = next(event.data for event in scheduler.decide(NOW) if isinstance(event, StepFailed))
    assert (end.waited, end.stage) == (False, "approval")


def test_an_event_is_the_output_of_the_step_that_waited_for_it():
    """There is no decision."""
    scheduler = waiting("a")
    signal(scheduler, "a", event={"po": 1}, procedure="po.approved")
    scheduler.decide(NOW)
    expected = {"decision": None, "data": None, "actor": None, "event": {"po": 1}}
    assert output(scheduler.state, "a") == expected


@pytest.mark.parametrize(
    ("on_reject", "actor", "status", "error"),
    [
        ("continue", "julia", "success", None),
        ("fail", "julia", "error", "rejected by julia"),
        ("fail", "", "error", "rejected"),
    ],
)
def test_a_rejection_is_data_or_a_failure(on_reject: Any, actor: str, status: str, error: str):
    """As the definition says."""
    scheduler = waiting("a", signal=ForSignal(on_reject=on_reject))
    signal(scheduler, "a", decision="rejected", actor=actor)
    scheduler.decide(NOW)
    step = scheduler.state.steps["a"]
    assert (step.status, step.error) == (status, error)


def test_signals_that_came_together_are_all_applied_after_one_resume():
    """In the order in which they came."""
    scheduler = waiting("a", "b", "c")
    signal(scheduler, "c")
    signal(scheduler, "a")
    assert short(scheduler.decide(NOW)) == [
        "execution:resumed",
        "completed:c",
        "completed:a",
        "started:after_c",
        "started:after_a",
    ]
    assert list(scheduler.waiting) == ["b"]


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
    scheduler = waiting("a", timeout="10s", on_timeout=on_timeout)
    assert due(scheduler) == NOW + 10
    assert scheduler.decide(NOW + 9.9) == []
    assert short(scheduler.decide(NOW + 10)) == events
    assert due(scheduler) is None
    if on_timeout == "continue":
        assert output(scheduler.state, "a")["decision"] == "timeout"
    if on_timeout == "cancel":
        assert scheduler.state.cancel is not None
        assert scheduler.state.cancel.data.reason == "a: timed out after 10s"
        assert short(scheduler.cancelled(NOW + 10)) == ["execution:cancelled"]


@pytest.mark.parametrize("on_timeout", ["fail", "continue", "cancel"])
def test_a_signal_that_is_in_the_log_before_the_timeout_wins(on_timeout: str):
    """Although it is not applied by then."""
    scheduler = waiting("a", timeout="10s", on_timeout=on_timeout)
    signal(scheduler, "a", decision="approved")
    events = short(scheduler.decide(NOW + 20))
    assert events == ["execution:resumed", "completed:a", "started:after_a"]
    assert output(scheduler.state, "a")["decision"] == "approved"
    assert due(scheduler) is None


def test_a_timeout_of_one_branch_leaves_the_others_waiting():
    """The execution pauses again for them."""
    scheduler = waiting("a", "b", timeout="10s", on_timeout="continue")
    scheduler.state.steps["b"].due = None
    assert short(scheduler.decide(NOW + 10)) == [
        "execution:resumed",
        "completed:a",
        "started:after_a",
    ]
    scheduler.record(completed(scheduler.state.steps["after_a"], 1, format_timestamp(NOW + 10)))
    assert short(scheduler.decide(NOW + 10)) == ["execution:paused"]


def test_the_output_of_a_child_run_is_the_output_of_its_step():
    """A child run is not a signal, so its parent is not paused for it."""
    workflow = definition(
        {"a": {"type": "workflow", "with": {"id": "child"}}, "b": {"needs": ["a"]}}
    )
    scheduler = Scheduler(Plan(workflow), fold([create("e1", workflow, 1, None, NOW)]))
    scheduler.decide(NOW)
    step, node = scheduler.state.steps["a"], workflow.nodes["a"]
    scheduler.record(end_event(step, ForChild("child", 1), node, NOW, 0.0))
    assert scheduler.decide(NOW) == []
    assert list(scheduler.waiting) == ["a"]
    scheduler.record(end_event(step, Succeeded({"x": 1}), node, NOW, 0.0))
    assert short(scheduler.decide(NOW)) == ["started:b"]
    assert output(scheduler.state, "a") == {"x": 1}
    assert not scheduler.waiting


def test_an_actors_step_waits_until_an_actor_begins():
    """First and again: no worker that drives runs anything of it."""
    workflow = definition({"a": {"type": "test.actor"}})
    plan = Plan(workflow, lambda node_type: node_type == "test.actor")
    scheduler = Scheduler(plan, fold([create("e1", workflow, 1, None, NOW)]))
    assert short(scheduler.decide(NOW)) == ["execution:started", "waiting:a"]
    assert scheduler.attended == []
    (wait,) = [step.waiting for step in scheduler.waiting.values()]
    assert wait is not None
    assert (wait.wait, wait.attempt) == ("actor", 1)
    assert scheduler.decide(NOW) == []


def test_a_signal_that_another_driver_has_applied_is_not_applied_again():
    """The first driver has read the other's commits, and must not resume the waiting step."""
    first, other = waiting("a", "b"), waiting("a", "b")
    command = Command("e1", "resolve", "c-a", node_id="a", decision="approved")
    accepted = request_resolve(other.state, command, NOW)
    assert accepted is not None
    written = [other.record(accepted), *other.decide(NOW)]
    written.append(
        other.record(completed(other.state.steps["after_a"], None, format_timestamp(NOW)))
    )
    written += other.decide(NOW)
    assert other.state.status == "paused"
    for event in written:
        first.record(event)
    assert first.decide(NOW) == []
