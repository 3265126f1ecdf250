"""The state machine of executions and steps, and the fold."""

import copy
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commands import create, request_cancel
from tailrace_shared.execution.commits import decode_commit, encode_commits
from tailrace_shared.execution.state import ExecutionState, IllegalEventError, fold
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import (
    EXECUTION_TRANSITIONS,
    SETTLED,
    STEP_TRANSITIONS,
    TERMINAL_STATUSES,
)
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
LATER = "2024-01-15T10:30:05.000Z"
NODES = ["a", "b"]

QUEUED = ev.ExecutionQueued(ev.Queued("e", "w", "W", 3, {"x": 1}, "queued"), NOW)
EXECUTION_EVENTS: dict[type, Any] = {
    ev.ExecutionStarted: ev.ExecutionStarted(ev.Started("e", "running", NOW), NOW),
    ev.ExecutionCompleted: ev.ExecutionCompleted(ev.Completed("e", "completed", 5, [1]), LATER),
    ev.ExecutionFailed: ev.ExecutionFailed(ev.Failed("e", "failed", 5, "broke", "a"), LATER),
    ev.ExecutionCancelled: ev.ExecutionCancelled(ev.Cancelled("e", "cancelled", 5, "no"), LATER),
    ev.CommandRequested: ev.CommandRequested(ev.Command("e", "cancel", "c1", "no"), NOW),
}


def step_events(node: str) -> dict[type, Any]:
    """Return one event of each type for a step."""
    return {
        ev.StepStarted: ev.StepStarted(ev.StepBegun(node, "http", "running", 1, NOW), NOW),
        ev.StepCompleted: ev.StepCompleted(
            ev.StepDone(node, "http", "success", 1, NOW, LATER, 5000, {"y": 2}), LATER
        ),
        ev.StepFailed: ev.StepFailed(
            ev.StepError(node, "http", "error", 1, NOW, LATER, 5000, "broke"), LATER
        ),
        ev.StepRetrying: ev.StepRetrying(
            ev.StepAgain(node, "http", "retrying", 1, "error", "broke", LATER), NOW
        ),
        ev.StepSkipped: ev.StepSkipped(ev.StepSkip(node, "http", "skipped", "when"), NOW),
        ev.StepWaiting: ev.StepWaiting(ev.StepWait(node, "http", "waiting", LATER), NOW),
        ev.StepProgressed: ev.StepProgressed(ev.StepProgress(node, "http", 50.0), NOW),
        ev.StepLogged: ev.StepLogged(ev.StepLog(node, "http", "info", "x"), NOW),
    }


ALL_EVENTS = [*EXECUTION_EVENTS.values(), *(e for n in NODES for e in step_events(n).values())]


def is_legal(state: ExecutionState, event: Any) -> bool:
    """Tell by the tables alone whether an event is legal."""
    if type(event) in EXECUTION_EVENTS:
        return (state.status, type(event)) in EXECUTION_TRANSITIONS
    step = state.steps.get(event.data.node_id)
    status = step.status if step else "pending"
    return state.status == "running" and (status, type(event)) in STEP_TRANSITIONS


@given(st.lists(st.sampled_from(ALL_EVENTS), max_size=40))
def test_only_legal_events_are_applied(events):
    """A refused event leaves the state unchanged."""
    state = fold([QUEUED])
    accepted = [QUEUED]
    for event in events:
        before = copy.deepcopy(state)
        if is_legal(state, event):
            state.apply(event)
            accepted.append(event)
        else:
            with pytest.raises(IllegalEventError):
                state.apply(event)
            assert state == before
    assert fold(accepted) == state
    # A log that has been to the wire and back folds to the same.
    commits = list(encode_commits(accepted))
    assert fold(event for commit in commits for event in decode_commit(commit)) == state


@given(st.data())
def test_every_legal_path_ends_in_one_terminal_event(data):
    """No event follows it, and no step stays open."""
    state = fold([QUEUED])
    for _ in range(data.draw(st.integers(0, 30))):
        legal = [event for event in ALL_EVENTS if is_legal(state, event)]
        if not legal:
            break
        state.apply(data.draw(st.sampled_from(legal)))
    assert state.is_terminal == (state.status in TERMINAL_STATUSES)
    if state.is_terminal:
        assert not any(is_legal(state, event) for event in ALL_EVENTS)
        assert all(step.status in SETTLED for step in state.steps.values())


@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda event: type(event).__name__)
def test_nothing_comes_before_the_execution_is_queued(event):
    """The first event names the execution."""
    with pytest.raises(IllegalEventError):
        fold([event])


def test_an_execution_is_queued_once():
    """A second creation is refused."""
    with pytest.raises(IllegalEventError, match="not the first"):
        fold([QUEUED, QUEUED])


def test_the_error_names_event_step_and_status():
    """Operators read it during incidents."""
    with pytest.raises(IllegalEventError) as caught:
        fold([QUEUED, step_events("a")[ev.StepStarted]])
    assert str(caught.value) == (
        "step:started for a, which is pending, while the execution is queued"
    )


def test_a_whole_execution_is_folded():
    """The fold sets every field."""
    a, b = step_events("a"), step_events("b")
    state = fold(
        [
            QUEUED,
            EXECUTION_EVENTS[ev.ExecutionStarted],
            a[ev.StepStarted],
            a[ev.StepProgressed],
            a[ev.StepRetrying],
            a[ev.StepStarted],
            a[ev.StepCompleted],
            b[ev.StepSkipped],
            EXECUTION_EVENTS[ev.ExecutionCompleted],
        ]
    )
    assert (state.execution_id, state.workflow_id, state.workflow_name) == ("e", "w", "W")
    assert (state.version, state.input, state.output) == (3, {"x": 1}, [1])
    assert (state.created_at, state.started_at, state.finished_at) == (NOW, NOW, LATER)
    assert (state.status, state.duration_ms, state.error) == ("completed", 5, None)
    step = state.steps["a"]
    assert (step.status, step.attempt, step.failures, step.crashes) == ("success", 1, 1, 0)
    assert (step.output, step.error, step.due, step.duration_ms) == ({"y": 2}, None, None, 5000)
    assert state.steps["b"].skipped_by_when


@pytest.mark.parametrize(
    ("cause", "failures", "crashes"), [("error", 1, 0), ("crash", 0, 1), ("handover", 0, 0)]
)
def test_only_errors_count_against_the_retry_policy(cause, failures, crashes):
    """A crash of the worker is not the node's failure."""
    again = ev.StepAgain("a", "http", "retrying", 1, cause, "x", LATER)
    started = EXECUTION_EVENTS[ev.ExecutionStarted]
    state = fold([QUEUED, started, step_events("a")[ev.StepStarted], ev.StepRetrying(again, NOW)])
    assert (state.steps["a"].failures, state.steps["a"].crashes) == (failures, crashes)
    assert state.steps["a"].due == parse_timestamp(LATER)


def test_steps_left_open_at_the_end_are_cancelled():
    """A cancelled execution has no running steps."""
    state = fold(
        [
            QUEUED,
            EXECUTION_EVENTS[ev.ExecutionStarted],
            step_events("a")[ev.StepStarted],
            EXECUTION_EVENTS[ev.ExecutionCancelled],
        ]
    )
    assert state.steps["a"].status == "cancelled"
    assert state.error == "no"


def test_a_new_execution_knows_its_workflow():
    """The first event is what the API appends."""
    definition = Definition("w", {"a": Node("transform")}, name="My flow")
    state = fold([create("e", definition, 7, {"x": 1}, 1705314600.0)])
    assert (state.workflow_name, state.version, state.created_at) == ("My flow", 7, NOW)
    assert create("e", msgspec.structs.replace(definition, name=""), 7, None, 0).data == ev.Queued(
        "e", "w", "w", 7, None, "queued"
    )


def test_a_cancel_is_requested_once():
    """A repeated request is ignored; a request after another end is refused."""
    state = fold([QUEUED])
    asked = request_cancel(state, "c1", "no", 0)
    assert asked is not None
    state.apply(asked)
    assert request_cancel(state, "c2", "again", 0) is None
    state.apply(EXECUTION_EVENTS[ev.ExecutionCancelled])
    assert request_cancel(state, "c3", "", 0) is None
    for end in (ev.ExecutionCompleted, ev.ExecutionFailed):
        started = EXECUTION_EVENTS[ev.ExecutionStarted]
        ended = fold([QUEUED, started, asked, EXECUTION_EVENTS[end]])
        with pytest.raises(IllegalCommandError, match=ended.status):
            request_cancel(ended, "c4", "", 0)
