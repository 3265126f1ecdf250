"""Values made of marked places are marked, even short ones."""

from typing import Any

from harness.generators.workflows import definition
from tailrace_shared.execution.events import (
    ExecutionCompleted,
    ExecutionFailed,
    Queued,
    StepCompleted,
    StepDone,
    StepExpanded,
    StepFailed,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.events import ExecutionQueued as Begun
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_worker.engine.decide.outcomes import Succeeded, end_event, failed
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks

NOW = "2030-01-01T00:00:00.000Z"
OWN = {"own": {"type": "own", "with": {}}}


def scheduler_of(
    nodes: dict[str, Any], run_input: Any, sensitive: list[str], **fields: Any
) -> Scheduler:
    """Return the scheduler of an execution that was just queued."""
    queued = Queued("e", "test", "test", 1, run_input, "queued", sensitive=sensitive)
    plan = Plan(definition(nodes, **fields))
    return Scheduler(plan, fold([Begun(queued, NOW)]))


def run(scheduler: Scheduler, outputs: dict[str, Any]) -> list[Any]:
    """Let each step that starts end with an output; return all events."""
    events: list[Any] = []
    while decided := scheduler.decide(0.0):
        events += decided
        for event in decided:
            step_id = event.data.node_id if isinstance(event, StepStarted) else ""
            if step_id in outputs:
                step, node = scheduler.state.steps[step_id], scheduler.plan.step(step_id).node
                outcome = Succeeded(outputs[step_id])
                end = end_event(step, outcome, node, 0.0, 0.5)
                events.append(scheduler.record(end, outcome.output))
    return events


def marks_of(scheduler: Scheduler) -> dict[str, list[str]]:
    """Return what is marked of each step's output."""
    return {step.node_id: step.sensitive for step in scheduler.state.steps.values()}


def test_whole_places_that_are_copied_stay_marked():
    """A truth, a small number and a short text as well, which no search would find."""
    nodes = {
        "a": {"type": "transform", "with": {"value": {"x": "${input.ok}", "y": "${input.n}"}}},
        "b": {
            "type": "transform",
            "with": {"value": ["${nodes.a.output}", "is ${nodes.a.output.y}"]},
            "needs": ["a"],
        },
    }
    scheduler = scheduler_of(
        nodes, {"ok": True, "n": 5}, ["/ok"], output={"all": "${nodes.b.output}", "n": 1}
    )
    events = run(scheduler, {"a": {"x": True, "y": 5}, "b": [{"x": True, "y": 5}, "is 5"]})
    assert marks_of(scheduler) == {"a": ["/x"], "b": ["/0/x"]}
    assert isinstance(events[-1], ExecutionCompleted)
    assert events[-1].data.sensitive == ["/all/0/x"]


def test_a_part_of_a_marked_place_is_marked_as_a_whole():
    """Any value below the place is marked."""
    nodes = {"a": {"type": "transform", "with": {"value": "${input.person.age}"}}}
    scheduler = scheduler_of(nodes, {"person": {"age": 42}}, ["/person"])
    events = run(scheduler, {"a": 42})
    assert marks_of(scheduler) == {"a": [""]}
    assert events[-1].data.sensitive == ["/a"]


def test_marks_follow_the_items_of_a_map():
    """They go from the list to the item, its output, and the list of outputs."""
    do = {"type": "transform", "with": {"value": {"age": "${item.age}", "i": "${index}"}}}
    nodes = {"each": {"type": "map", "with": {"for_each": "input.people", "do": do}}}
    people = [{"age": 1, "name": "x"}, {"age": 2}]
    scheduler = scheduler_of(nodes, {"people": people}, ["/people/0/age"])
    events = run(scheduler, {f"each[{i}]": {"age": i + 1, "i": i} for i in range(2)})
    assert [e.data.sensitive for e in events if isinstance(e, StepExpanded)] == [["/0/age"]]
    assert marks_of(scheduler) == {"each": ["/0/age"], "each[0]": ["/age"], "each[1]": []}
    assert events[-1].data.sensitive == ["/each/0/age"]


def test_the_input_of_a_child_run_is_marked():
    """The marks are the places that its template copies."""
    child = {"type": "workflow", "with": {"id": "c", "input": {"pin": "${input.pin}", "n": 1}}}
    scheduler = scheduler_of({"child": child}, {"pin": 7}, ["/pin"])
    scheduler.decide(0.0)
    wait = StepWait(
        "child", "workflow", "waiting", wait="child", attempt=1, child_input={"pin": 7, "n": 1}
    )
    event = scheduler.record(StepWaiting(wait, NOW))
    assert event.data.sensitive == ["/pin"]  # type: ignore[union-attr]


def test_an_output_recorded_by_reference_is_marked():
    """Its values are recognised in later outputs."""
    nodes = {"own": {"type": "own", "with": {}, "sensitive": ["/big"]}, "b": {"type": "own"}}
    scheduler = scheduler_of(nodes, {}, [])
    scheduler.decide(0.0)
    done = StepDone("own", "own", "success", 1, NOW, NOW, 0, None)
    scheduler.record(StepCompleted(done, NOW), {"big": "the-value-itself"})
    assert done.sensitive == ["/big"]
    other = StepDone("b", "own", "success", 1, NOW, NOW, 0, ["has the-value-itself"])
    scheduler.record(StepCompleted(other, NOW))
    assert other.sensitive == ["/0"]


def test_the_detail_of_an_error_is_left_out():
    """A traceback or a response may contain parts of a sensitive value."""
    scheduler = scheduler_of(OWN, {"card": "4111-1111"}, ["/card"])
    scheduler.decide(0.0)
    step = scheduler.state.steps["own"]
    event = scheduler.record(failed(step, "no 4111-1111", NOW, "4111-11 in a traceback"))
    assert isinstance(event, StepFailed)
    assert "4111" not in event.data.error
    assert not event.data.error_detail


def test_an_output_that_cannot_be_evaluated_leaks_nothing():
    """The expression error would quote the input."""
    output = {"x": "${input.card + 1}"}
    scheduler = scheduler_of(OWN, {"card": "4111-1111"}, ["/card"], output=output)
    events = run(scheduler, {"own": 1})
    assert isinstance(events[-1], ExecutionFailed)
    assert "4111" not in events[-1].data.error_message


def test_an_execution_without_marks_has_no_sensitivity_marks():
    """They are created when a child run or a signal brings marked data."""
    scheduler = scheduler_of(OWN, {"card": "4111-1111"}, [])
    before = scheduler.sensitivity
    assert before is None
    scheduler.decide(0.0)
    done = StepDone("own", "own", "success", 1, NOW, NOW, 0, {"a": 1}, sensitive=["/a"])
    scheduler.record(StepCompleted(done, NOW))
    assert scheduler.sensitivity is not None
    assert done.sensitive == ["/a"]


def test_marks_from_a_folded_log_equal_those_of_its_writer():
    """The next driver knows the same values."""
    nodes = {
        "own": {"type": "own", "with": {}, "sensitive": ["/a"]},
        "b": {"type": "own", "with": {}, "needs": ["own"]},
    }
    scheduler = scheduler_of(nodes, {}, [])
    events = run(scheduler, {"own": {"a": "only-here"}})
    plan, state = scheduler.plan, scheduler.state
    done = StepDone("b", "own", "success", 1, NOW, NOW, 0, "of only-here")
    sensitivity = SensitivityMarks.of(plan, state)
    assert sensitivity is not None
    assert events
    sensitivity.mark(StepCompleted(done, NOW))
    assert done.sensitive == [""]
    assert SensitivityMarks.of(Plan(definition(OWN)), ExecutionState()) is None
