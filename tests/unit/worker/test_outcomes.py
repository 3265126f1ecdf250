"""The event of an attempt's outcome, and the step after it."""

from typing import Any

import msgspec
import pytest

from tailrace_shared.duration import Duration
from tailrace_shared.execution.commits import decode_commit, encode_commits
from tailrace_shared.execution.events import (
    Event,
    ExecutionQueued,
    ExecutionStarted,
    OutputRef,
    Queued,
    Started,
    StepBegun,
    StepFailed,
    StepRetrying,
    StepStarted,
)
from tailrace_shared.execution.state import ExecutionState, StepState, fold
from tailrace_shared.execution.timestamps import format_timestamp, parse_timestamp
from tailrace_shared.workflow.definition import Node, Retry
from tailrace_worker.engine.decide.outcomes import (
    MAX_ERROR_CHARACTERS,
    Erred,
    Outcome,
    Succeeded,
    Unable,
    end_event,
    lost,
)
from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal

NOW = 1_700_000_000.0
STAMP = format_timestamp(NOW)
NODE = Node("simulate")


def started(attempt: int = 1) -> ExecutionState:
    """Return an execution whose step `a` runs."""
    log: list[Event] = [
        ExecutionQueued(Queued("e1", "w", "w", 1, None, "queued"), STAMP),
        ExecutionStarted(Started("e1", "running", STAMP), STAMP),
        StepStarted(StepBegun("a", "simulate", "running", attempt, STAMP), STAMP),
    ]
    return fold(log)


def end(outcome: Outcome, node: Node = NODE, attempt: int = 1, **known: Any) -> Any:
    """Return the event of an outcome, 1.5 seconds after the attempt began."""
    step = started(attempt).steps["a"]
    for name, value in known.items():
        setattr(step, name, value)
    return end_event(step, outcome, node, NOW + 1.5, 0.0)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Succeeded({"x": 1}), "success"),
        (Succeeded("large", ref=OutputRef("t.e1.x", 300_000)), "success"),
        (Erred("broken"), "error"),
        (Unable("this worker has no such type"), "retrying"),
        (Wait(NOW + 60), "waiting"),
        (ForSignal("approval", ["t"], "event.x", Duration.parse("1h"), {"type": "object"}), None),
        (ForChild("other", {"x": 1}), "waiting"),
    ],
)
def test_the_event_of_every_outcome_survives_the_log(outcome: Outcome, status: str | None):
    """Encoded, decoded and folded, it is unchanged."""
    event = end(outcome)
    (payload,) = encode_commits([event])
    assert decode_commit(payload) == [event]
    state = started()
    state.apply(event)
    assert state.steps["a"].status == (status or "waiting")


def test_a_success_records_its_output_and_duration():
    """The duration is that of the attempt."""
    done = end(Succeeded({"x": 1}), attempt=3).data
    assert (done.output, done.attempt, done.duration_ms) == ({"x": 1}, 3, 1500)


def test_an_event_holds_only_the_reference_of_a_large_output():
    """The output itself is in OUTPUTS."""
    ref = OutputRef("t.e1.x", 300_000)
    event = end(Succeeded("large", ref=ref))
    assert (event.data.output, event.data.output_ref) == (None, ref)
    state = started()
    state.apply(event)
    assert state.steps["a"].output is msgspec.UNSET


def test_an_error_is_tried_again_as_the_policy_says():
    """The failures that count are those before and this one."""
    node = Node("simulate", retry=Retry(3, "2s", jitter=False))
    again = end(Erred("broken"), node, failures=1)
    assert isinstance(again, StepRetrying)
    assert parse_timestamp(again.data.retry_at) == NOW + 1.5 + 4
    assert isinstance(end(Erred("broken"), node, failures=2), StepFailed)


def test_an_error_that_no_repetition_mends_is_final():
    """Under any policy."""
    node = Node("simulate", retry=Retry(3))
    assert isinstance(end(Erred("broken", retryable=False), node), StepFailed)


def test_a_long_error_is_truncated():
    """Events have a size limit."""
    assert len(end(Erred("x" * 10_000)).data.error) == MAX_ERROR_CHARACTERS


def test_a_worker_that_cannot_run_a_step_leaves_it_to_others_for_a_while():
    """Longer and longer, and not for ever; none of it counts as a failure."""
    delays = [
        parse_timestamp(end(Unable("no such type"), attempt=attempt).data.retry_at) - NOW - 1.5
        for attempt in (1, 2, 29)
    ]
    assert delays == pytest.approx([3, 4, 30], abs=0.001)
    assert end(Unable("no such type")).data.cause == "handover"
    assert isinstance(end(Unable("no such type"), attempt=30), StepFailed)


def test_a_wait_for_a_signal_carries_what_a_signal_must_be():
    """A lookback in seconds, for any kind of number."""
    signal = ForSignal("approval", ["t"], "event.x", Duration.parse("1h"), on_reject="fail")
    node = Node("await", timeout="10s", on_timeout="continue")
    wait = end(signal, node).data
    assert (wait.wait, wait.reason, wait.triggers, wait.match) == (
        "signal",
        "approval",
        ["t"],
        "event.x",
    )
    assert (type(wait.lookback), wait.lookback) == (float, 3600)
    assert (wait.on_reject, wait.on_timeout) == ("fail", "continue")
    assert parse_timestamp(wait.until) == NOW + 1.5 + 10


def test_a_wait_without_a_timeout_has_no_end():
    """The default policy after a timeout is to fail the step."""
    wait = end(ForSignal()).data
    assert (wait.until, wait.on_timeout) == (None, "fail")


def test_a_wait_for_a_child_names_a_run_that_does_not_exist_yet():
    """Every attempt another one."""
    first, second = end(ForChild("other", 1)).data, end(ForChild("other", 1)).data
    assert (first.child_workflow_id, first.child_input) == ("other", 1)
    assert first.child_execution_id != second.child_execution_id


def test_a_wait_for_a_time_waits_until_then():
    """At any timeout of the node, which limits one attempt."""
    assert parse_timestamp(end(Wait(NOW + 60), Node("delay", timeout="1s")).data.until) == NOW + 60


def test_a_lost_attempt_is_repeated_at_once_unless_it_must_not_be():
    """`on_crash: fail` is for effects that must not happen twice."""
    step = StepState("a", "simulate", "running", attempt=1, started_at=STAMP)
    again = lost(step, NODE, "crash", "its worker was lost", NOW)
    assert isinstance(again, StepRetrying)
    assert (again.data.cause, again.data.retry_at) == ("crash", STAMP)
    for cause in ("crash", "handover"):
        final = lost(step, Node("simulate", on_crash="fail"), cause, "its worker was lost", NOW)
        assert isinstance(final, StepFailed)
        assert final.data.error == "its worker was lost, and on_crash is fail"


def test_only_errors_count_as_failures_and_only_crashes_as_crashes():
    """A hand-over is no failure of the node."""
    for cause, counts in {"error": (1, 0), "crash": (0, 1), "handover": (0, 0)}.items():
        state = started()
        step = state.steps["a"]
        if cause == "error":
            state.apply(end(Erred("broken"), Node("simulate", retry=Retry(3))))
        else:
            state.apply(lost(step, NODE, cause, "gone", NOW))  # type: ignore[arg-type]
        assert (step.failures, step.crashes) == counts
