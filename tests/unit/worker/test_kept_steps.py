"""Which completions a rerun keeps."""

from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.models.scheduled_run import NOW, ScheduledRun, short
from tailrace_shared.execution.commands import create
from tailrace_shared.execution.commits import events_version
from tailrace_shared.execution.events import Origin, StepCompleted, StepDone
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Definition
from tailrace_worker.engine.decide.kept_steps import steps_to_keep
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler

NODES: dict[str, dict[str, Any]] = {
    "a": {"type": "test.x", "with": {"rate": "${input.rate}"}},
    "b": {"type": "test.x", "needs": ["a"], "with": {"of": "${nodes.a.output}"}},
    "bad": {"type": "test.x", "needs": ["a"]},
    "after": {"type": "test.x", "needs": ["bad"]},
    "alone": {"type": "test.x", "with": {"size": "${input.size}"}},
}
FOR_EACH: dict[str, Any] = {
    "for_each": "input.pages",
    "on_error": "collect",
    "do": {"type": "test.item"},
}
MAP: dict[str, Any] = {
    "type": "map",
    "with": FOR_EACH,
}


def ended(nodes: dict[str, Any], run_input: Any, *failing: str) -> ScheduledRun:
    """Run a workflow in which some steps fail."""
    run = ScheduledRun(nodes, run_input)
    run.decide()
    while open_ := list(run.scheduler.attended):
        for step in open_:
            end = run.fail if step.node_id in failing else run.succeed
            end(step.node_id)
    assert run.state.is_terminal
    return run


def again(workflow: Definition, run_input: Any, **origin: Any) -> ExecutionState:
    """Return the state of a rerun that has not begun."""
    rerun = Origin(rerun_of="e1", **origin)
    return fold([create("e2", workflow, 2, run_input, NOW, rerun)])


def kept(
    run: ScheduledRun, workflow: Definition | None = None, run_input: Any = None, **origin: Any
) -> set[str]:
    """Return what a rerun keeps, with another definition or input if one is given."""
    new = run.plan.definition if workflow is None else workflow
    given = run.state.input if run_input is None else run_input
    origin |= {"revised": workflow is not None or run_input is not None}
    before = None if workflow is None else run.plan.definition
    steps = steps_to_keep(again(new, given, **origin), Plan(new), run.state, before)
    return {step.node_id for step in steps}


@pytest.fixture
def failed() -> ScheduledRun:
    """A run in which one node failed."""
    return ended(NODES, {"rate": 2, "size": 3}, "bad")


def changed(node: str, **fields: Any) -> Definition:
    """Return the workflow with fields of one node changed."""
    return definition({**NODES, node: {**NODES[node], **fields}})


def test_what_has_not_failed_is_kept(failed: ScheduledRun):
    """The failed node and what depends on it run again."""
    assert kept(failed, failed=True) == {"a", "b", "alone"}


def test_a_rerun_from_its_start_keeps_nothing(failed: ScheduledRun):
    """Neither does one with another version."""
    assert kept(failed) == set()
    assert kept(failed, changed("b", retry={"max_attempts": 3})) == set()


def test_a_node_may_be_asked_for_beside_what_has_failed(failed: ScheduledRun):
    """Both run again."""
    assert kept(failed, failed=True, from_node="b") == {"a", "alone"}


@pytest.mark.parametrize(
    ("node", "fields", "expected"),
    [
        ("bad", {"with": {"fixed": True}}, {"a", "b", "alone"}),
        ("b", {"with": {"of": 7}}, {"a", "alone"}),
        ("a", {"with": {"rate": 2}}, {"alone"}),
        ("alone", {"when": "input.size > 1"}, {"a", "b"}),
        ("alone", {"needs": ["b"]}, {"a", "b"}),
        ("alone", {"sensitive": True}, {"a", "b"}),
        ("a", {"retry": {"max_attempts": 3}, "timeout": "5s", "name": "A"}, {"a", "b", "alone"}),
    ],
)
def test_a_node_that_the_new_version_changes_runs_again(
    failed: ScheduledRun, node: str, fields: dict[str, Any], expected: set[str]
):
    """So does what depends on it. Retries, limits and names change no outcome."""
    assert kept(failed, changed(node, **fields), failed=True) == expected


def test_a_node_that_the_new_version_adds_runs(failed: ScheduledRun):
    """It has no completion, and one that is gone is not kept."""
    nodes = {name: node for name, node in NODES.items() if name != "alone"}
    assert kept(failed, definition({**nodes, "new": {}}), failed=True) == {"a", "b"}


@pytest.mark.parametrize(
    ("run_input", "expected"),
    [
        ({"rate": 2, "size": 4}, {"a", "b"}),
        ({"rate": 9, "size": 3}, {"alone"}),
        ({"rate": 2, "size": 3, "more": 1}, {"a", "b", "alone"}),
        ({"rate": True, "size": 3}, {"alone"}),
        ("text", set()),
    ],
)
def test_a_node_that_reads_a_changed_part_of_the_input_runs_again(
    failed: ScheduledRun, run_input: Any, expected: set[str]
):
    """Nodes that read other fields are kept."""
    assert kept(failed, run_input=run_input, failed=True) == expected


def mapped(*failing: str) -> ScheduledRun:
    """Return a run whose map collects the errors of some items."""
    nodes = {"m": MAP, "b": {"type": "test.x", "needs": ["m"]}}
    return ended(nodes, {"pages": ["x", "y", "z"]}, *failing)


def test_only_the_failed_items_of_a_map_run_again():
    """The map has succeeded, because it collects errors."""
    run = mapped("m[1]")
    assert run.state.status == "completed"
    assert kept(run, failed=True) == {"m[0]", "m[2]"}


def test_one_item_of_a_map_runs_again():
    """All others are kept; from the map itself on, none is."""
    run = mapped()
    assert kept(run, from_node="m[1]") == {"m[0]", "m[2]"}
    assert kept(run, from_node="m") == set()
    assert kept(run, from_node="b") == {"m"}


def test_no_item_is_kept_if_the_items_may_be_others():
    """The map has changed, or the part of the input that it reads."""
    run = mapped("m[1]")
    other = {**MAP, "with": {**FOR_EACH, "for_each": "input.pages.map(p, p)"}}
    nodes = {"m": other, "b": {"type": "test.x", "needs": ["m"]}}
    assert kept(run, definition(nodes), failed=True) == set()
    assert kept(run, run_input={"pages": ["x"]}, failed=True) == set()


def test_a_map_with_kept_items_runs_only_the_others():
    """It gathers the outputs of both, whether one worker decides or several."""
    run = mapped("m[1]")
    state = again(run.plan.definition, run.state.input, failed=True)
    stamp = format_timestamp(NOW)
    for step in steps_to_keep(state, run.plan, run.state, None):
        done = StepDone(step.node_id, "test.item", "success", 1, stamp, stamp, 0, 7, kept_from="e1")
        state.apply(StepCompleted(done, stamp))
    scheduler = Scheduler(run.plan, state)
    decided = short(scheduler.decide(NOW))
    assert decided == ["execution:started", "started:m", "expanded:m", "started:m[1]"]
    rerun = ScheduledRun(run.plan.definition, run.state.input)
    rerun.scheduler = scheduler
    assert rerun.succeed("m[1]", 8) == ["completed:m", "started:b"]
    assert rerun.step("m").output == [7, 8, 7]


def test_reruns_that_earlier_releases_cannot_continue_have_a_newer_version():
    """A rerun from a node is as it was."""
    run = mapped()
    workflow = run.plan.definition
    for origin, expected in (
        ({"from_node": "b"}, 1),
        ({"from_node": "m[1]"}, 2),
        ({"failed": True}, 2),
        ({"revised": True}, 2),
    ):
        assert events_version(again(workflow, {}, **origin)) == expected
