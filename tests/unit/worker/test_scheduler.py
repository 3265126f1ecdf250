"""The scheduler decides by rules alone: joins, conditions, timers, and how an execution ends."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.generators.workflows import definition
from harness.models.scheduled_run import NOW, STAMP, ScheduledRun, short
from tailrace_shared.execution.events import (
    Event,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionStarted,
    StepCompleted,
    StepFailed,
    StepSkipped,
    StepStarted,
)
from tailrace_shared.execution.state import ExecutionState, StepState, fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.workflow.definition import Definition
from tailrace_worker.engine.decide.outcomes import completed, failed, retrying
from tailrace_worker.engine.decide.scheduler import Scheduler


def test_a_new_execution_starts_the_nodes_that_need_nothing():
    """Nodes without needs start together, in one decision."""
    run = ScheduledRun(definition({"a": {}, "b": {}, "c": {"needs": ["a", "b"]}}))
    assert run.decide() == ["execution:started", "started:a", "started:b"]
    assert run.decide() == []


def test_a_node_starts_when_the_last_of_its_needs_has_succeeded():
    """`all` is the default join."""
    run = ScheduledRun(definition({"a": {}, "b": {}, "c": {"needs": ["a", "b"]}}))
    run.decide()
    assert run.succeed("a") == []
    assert run.succeed("b") == ["started:c"]
    assert run.succeed("c", 7) == ["execution:completed"]
    assert run.state.output == {"c": 7}


def test_a_failure_skips_what_needs_it_and_fails_the_execution_when_all_is_settled():
    """Independent branches run to their end before the execution fails."""
    run = ScheduledRun(
        definition({"a": {}, "b": {}, "after_a": {"needs": ["a"]}, "last": {"needs": ["after_a"]}})
    )
    run.decide()
    assert run.fail("a") == ["skipped:after_a", "skipped:last"]
    assert run.succeed("b") == ["execution:failed"]
    assert run.state.error == "a: broken"


def test_a_false_condition_skips_the_node_but_not_what_needs_it():
    """A node skipped by its own `when` satisfies `all`."""
    run = ScheduledRun(
        definition({"a": {}, "b": {"needs": ["a"], "when": "input.wanted"}, "c": {"needs": ["b"]}}),
        {"wanted": False},
    )
    run.decide()
    assert run.succeed("a") == ["skipped:b", "started:c"]


def test_a_skip_because_of_needs_passes_on():
    """Only a node's own `when` counts as satisfied; a skip from above does not."""
    run = ScheduledRun(
        definition({"a": {}, "b": {"needs": ["a"]}, "c": {"needs": ["b"]}, "d": {"needs": ["c"]}})
    )
    run.decide()
    assert run.fail("a") == ["skipped:b", "skipped:c", "skipped:d", "execution:failed"]


@pytest.mark.parametrize("condition", ["input.missing", "1 + 1", "nodes.a.output.x > 'y'"])
def test_a_condition_that_cannot_be_evaluated_fails_the_node(condition: str):
    """Neither running nor skipping would be right when the condition says neither."""
    run = ScheduledRun(definition({"a": {}, "b": {"needs": ["a"], "when": condition}}), {})
    run.decide()
    assert run.succeed("a", {"x": 1}) == ["failed:b", "execution:failed"]
    assert (run.state.error or "").startswith("b: when: ")


def test_any_starts_with_the_first_success_and_only_once():
    """`any` does not wait for the other needs."""
    run = ScheduledRun(definition({"a": {}, "b": {}, "c": {"needs": ["a", "b"], "join": "any"}}))
    run.decide()
    assert run.succeed("b") == ["started:c"]
    assert run.succeed("a") == []
    assert run.succeed("c") == ["execution:completed"]


def test_any_is_skipped_when_no_need_succeeds():
    """Without one success there is nothing to go on with."""
    run = ScheduledRun(definition({"a": {}, "b": {}, "c": {"needs": ["a", "b"], "join": "any"}}))
    run.decide()
    assert run.fail("a") == []
    assert run.fail("b") == ["skipped:c", "execution:failed"]


def test_all_done_runs_after_any_outcome_of_its_needs():
    """A clean-up runs after success, failure and skips alike; the execution still fails."""
    run = ScheduledRun(
        definition(
            {
                "a": {},
                "b": {"needs": ["a"]},
                "tidy": {"needs": ["a", "b"], "join": "all_done"},
            }
        )
    )
    run.decide()
    assert run.fail("a") == ["skipped:b", "started:tidy"]
    assert run.succeed("tidy") == ["execution:failed"]


def test_a_retry_starts_when_it_is_due_and_not_before():
    """The timer is the scheduler's; the clock is the caller's."""
    run = ScheduledRun(definition({"a": {"retry": {"max_attempts": 2}}}))
    run.decide()
    assert run.retry("a", NOW + 5) == []
    assert run.due() == pytest.approx(NOW + 5)
    assert run.decide(NOW + 4.9) == []
    assert run.decide(NOW + 5) == ["started:a"]
    assert run.step("a").attempt == 2
    assert run.due() is None


def test_no_more_than_some_steps_start_in_one_decision():
    """A thousand ready nodes are started in portions, so that the loop stays responsive."""
    run = ScheduledRun(definition({f"n{i}": {} for i in range(200)}))
    portions = [len(run.scheduler.decide(NOW)) for _ in range(4)]
    assert portions == [65, 64, 64, 8]


def test_nothing_starts_once_a_cancel_is_requested():
    """The drive interrupts what runs and then ends the execution."""
    run = ScheduledRun(definition({"a": {}, "b": {"needs": ["a"]}}))
    run.decide()
    assert run.cancel("not needed") == []
    assert run.succeed("a") == []
    run.stopped(NOW + 1)
    assert run.state.status == "cancelled"
    assert run.state.error == "not needed"


def test_the_output_expression_is_the_output():
    """A definition may say what comes out; otherwise it is the outputs of the leaves."""
    run = ScheduledRun(definition({"a": {}}, output={"n": "${nodes.a.output.n}"}))
    run.decide()
    assert run.succeed("a", {"n": 3}) == ["execution:completed"]
    assert run.state.output == {"n": 3}


def test_an_output_that_cannot_be_evaluated_fails_the_execution():
    """A run without its output has not done what was asked."""
    run = ScheduledRun(definition({"a": {}}, output="${nodes.a.output.n}"))
    run.decide()
    assert run.succeed("a", {}) == ["execution:failed"]


@st.composite
def workflows(draw: st.DrawFn) -> Definition:
    """Draw a random DAG with every kind of join and condition."""
    size = draw(st.integers(1, 14))
    nodes: dict[str, dict[str, Any]] = {}
    for index in range(size):
        needs = draw(st.lists(st.integers(0, index - 1), unique=True, max_size=4)) if index else []
        node: dict[str, Any] = {
            "needs": [f"n{need}" for need in needs],
            "join": draw(st.sampled_from(["all", "all", "any", "all_done"])),
        }
        if draw(st.integers(0, 4)) == 0:
            node["when"] = draw(st.sampled_from(["false", "true", "execution.id == 'other'"]))
        nodes[f"n{index}"] = node
    return definition(nodes)


def play(workflow: Definition, seed: int) -> list[Event]:
    """Run a workflow with random outcomes in random order, recovering now and then."""
    source = random.Random(seed)
    run, now = ScheduledRun(workflow), NOW
    while not run.state.is_terminal:
        if source.random() < 0.3:
            # Recovery: a scheduler made from the log must continue as if nothing had happened.
            run.take_over()
        run.log += run.scheduler.decide(now)
        running = run.scheduler.attended
        if running:
            run.log.append(run.scheduler.record(random_end(source, source.choice(running), now)))
        elif (due := run.due()) is not None:
            now = max(now, due)
        assert len(run.log) < 2000, "the execution does not end"
    return run.log


def random_end(source: random.Random, step: StepState, now: float) -> Event:
    """Return an end of an attempt: mostly a success."""
    stamp = format_timestamp(now)
    match source.randrange(5):
        case 0:
            return failed(step, "broken", stamp)
        case 1:
            return retrying(step, "error", "broken", now + 1, stamp)
        case _:
            return completed(step, {"n": source.randrange(9)}, stamp)


@settings(max_examples=300, deadline=None)
@given(workflows(), st.integers(0, 2**32))
def test_every_execution_ends_and_its_log_is_legal(workflow: Definition, seed: int):
    """For any DAG and any outcomes: one terminal event, all settled, no node before its needs."""
    log = play(workflow, seed)
    state = ExecutionState()
    for event in log:
        if isinstance(event, StepStarted) and event.data.attempt == 1:
            assert_needs_allow(workflow, event.data.node_id, state)
        state.apply(event)
    assert isinstance(log[1], ExecutionStarted)
    assert sum(isinstance(e, ExecutionCompleted | ExecutionFailed) for e in log) == 1
    assert {step.status for step in state.steps.values()} <= SETTLED
    assert set(state.steps) == set(workflow.nodes)
    ends = [e.data.node_id for e in log if isinstance(e, StepCompleted | StepFailed | StepSkipped)]
    assert sorted(ends) == sorted(workflow.nodes)
    has_failed = any(isinstance(e, StepFailed) for e in log)
    assert state.status == ("failed" if has_failed else "completed")


def assert_needs_allow(workflow: Definition, node_id: str, state: ExecutionState) -> None:
    """Check the join of a node that starts, from the definition's words rather than the code's."""
    node = workflow.nodes[node_id]
    statuses = [
        state.steps[need].status if need in state.steps else "pending" for need in node.needs
    ]
    match node.join:
        case "any":
            assert not node.needs or "success" in statuses
        case "all_done":
            assert all(status in SETTLED for status in statuses)
        case "all":
            for need, status in zip(node.needs, statuses, strict=True):
                assert status == "success" or state.steps[need].skipped_by_when


@settings(max_examples=100, deadline=None)
@given(workflows(), st.integers(0, 2**32))
def test_a_recovered_scheduler_decides_as_the_one_that_wrote_the_log(
    workflow: Definition, seed: int
):
    """Cutting the log at any event and going on from the fold gives the same decisions."""
    source = random.Random(seed)
    run = ScheduledRun(workflow)
    run.log += run.scheduler.decide(NOW)
    while run.scheduler.attended and source.random() < 0.9:
        step = source.choice(run.scheduler.attended)
        run.log.append(run.scheduler.record(completed(step, {"n": 1}, STAMP)))
        recovered = Scheduler(run.plan, fold(run.log))
        decided = run.scheduler.decide(NOW)
        run.log += decided
        assert sorted(short(recovered.decide(NOW))) == sorted(short(decided))
