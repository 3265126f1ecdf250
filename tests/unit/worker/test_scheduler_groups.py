"""The scheduler after the main part: on_failure, finally, time limits, and failures that go on."""

from typing import Any

import pytest

from harness.models.scheduled_run import NOW, ScheduledRun
from tailrace_shared.execution.commands import request_cancel
from tailrace_shared.execution.events import ExecutionFailed, ExecutionFinishing
from tailrace_shared.workflow.definition import CLEANUP_TIMEOUT

STEP: dict[str, Any] = {"type": "simulate"}
MAIN: dict[str, dict[str, Any]] = {"a": {}, "b": {"needs": ["a"]}}
FINALLY: dict[str, Any] = {"finally": {"nodes": {"tidy": STEP}}}
AWAIT: dict[str, Any] = {"type": "await"}


def on_failure(then: str = "failed") -> dict[str, Any]:
    """Return a group of one node."""
    return {"nodes": {"undo": STEP}, "then": then}


def groups(run: ScheduledRun) -> list[tuple[str, str]]:
    """Return the groups that have begun, each with the outcome until then."""
    return [
        (event.data.group, event.data.outcome)
        for event in run.log
        if isinstance(event, ExecutionFinishing)
    ]


def test_finally_runs_after_success():
    """The output is that of the main part."""
    run = ScheduledRun({"a": {}}, **FINALLY)
    run.decide()
    assert run.succeed("a", 7) == ["execution:finishing", "started:tidy"]
    assert run.succeed("tidy", 8) == ["execution:completed"]
    assert run.state.output == {"a": 7}
    assert groups(run) == [("finally", "completed")]


def test_a_failure_runs_on_failure_and_then_finally():
    """The run keeps the error of the main part."""
    run = ScheduledRun(MAIN, on_failure=on_failure(), **FINALLY)
    run.decide()
    assert run.fail("a") == ["skipped:b", "execution:finishing", "started:undo"]
    assert run.succeed("undo") == ["execution:finishing", "started:tidy"]
    assert run.succeed("tidy") == ["execution:failed"]
    assert groups(run) == [("on_failure", "failed"), ("finally", "failed")]
    assert run.state.error == "a: broken"


def test_on_failure_does_not_run_without_a_failure():
    """Neither event nor step of it is in the log."""
    run = ScheduledRun({"a": {}}, on_failure=on_failure())
    run.decide()
    assert run.succeed("a") == ["execution:completed"]


def test_a_failure_can_be_made_good():
    """`then: completed` with an output of the steps that succeeded."""
    run = ScheduledRun(MAIN, on_failure=on_failure("completed"))
    run.decide()
    run.fail("a")
    assert run.succeed("undo") == ["execution:completed"]
    assert run.state.output == {"b": None}


def test_a_failure_is_not_made_good_by_a_group_that_fails():
    """The first error is the run's."""
    run = ScheduledRun(MAIN, on_failure=on_failure("completed"))
    run.decide()
    run.fail("a")
    assert run.fail("undo") == ["execution:failed"]
    assert run.state.error == "a: broken"


def test_a_failure_in_finally_fails_a_run_that_had_succeeded():
    """A clean-up that failed must not go unnoticed."""
    run = ScheduledRun({"a": {}}, **FINALLY)
    run.decide()
    run.succeed("a")
    assert run.fail("tidy") == ["execution:failed"]
    assert run.state.error == "tidy: broken"


def test_a_cancellation_runs_finally():
    """Open steps are cancelled first; the group may run although a cancel is recorded."""
    run = ScheduledRun(MAIN, on_failure=on_failure(), **FINALLY)
    run.decide()
    run.cancel("no longer needed")
    assert run.stopped() == ["execution:finishing"]
    assert run.step("a").status == "cancelled"
    assert run.decide() == ["started:tidy"]
    assert run.succeed("tidy") == ["execution:cancelled"]
    assert run.state.error == "no longer needed"
    assert groups(run) == [("finally", "cancelled")]


def test_a_cancellation_before_the_start_runs_nothing():
    """Nothing has happened that could be tidied up."""
    run = ScheduledRun(MAIN, **FINALLY)
    run.cancel("too late")
    assert run.stopped() == ["execution:cancelled"]


def test_a_cancellation_does_not_interrupt_finally():
    """The group runs to its end, and the run is cancelled then."""
    run = ScheduledRun({"a": {}}, **FINALLY)
    run.decide()
    run.succeed("a")
    run.cancel("now")
    assert not run.scheduler.must_stop(NOW)
    assert run.succeed("tidy") == ["execution:cancelled"]


def test_a_cancellation_interrupts_on_failure():
    """Finally follows."""
    run = ScheduledRun(MAIN, on_failure=on_failure("completed"), **FINALLY)
    run.decide()
    run.fail("a")
    run.cancel("now")
    assert run.stopped() == ["execution:finishing"]
    assert run.step("undo").status == "cancelled"
    assert run.decide() == ["started:tidy"]
    assert run.succeed("tidy") == ["execution:cancelled"]


def test_a_cancellation_of_a_held_run_runs_finally():
    """The hold ends with the main part; another one holds the group."""
    run = ScheduledRun(MAIN, **FINALLY)
    run.decide()
    run.pause()
    run.cancel("now")
    assert run.stopped() == ["execution:finishing"]
    assert run.decide() == ["started:tidy"]
    assert run.pause() == []
    assert run.retry("tidy", NOW) == ["execution:paused"]
    assert run.resume() == ["execution:resumed", "started:tidy"]


@pytest.mark.parametrize("limit", ["2s", "30d"])
def test_a_time_limit_stops_the_main_part(limit: str):
    """The limit cancels open steps, and the run fails."""
    run = ScheduledRun(MAIN, timeout=limit)
    run.decide()
    due = run.due()
    assert due is not None
    assert not run.scheduler.must_stop(due - 0.01)
    assert run.scheduler.must_stop(due)
    assert run.decide(due) == []
    assert run.stopped(due) == ["execution:failed"]
    failed = run.log[-1]
    assert isinstance(failed, ExecutionFailed)
    assert [step.node_id for step in failed.data.open_steps] == ["a"]
    assert run.state.error == f"timed out after {limit}"


def test_a_time_limit_ends_a_wait():
    """A paused run is resumed first, because a group begins in a running one only."""
    run = ScheduledRun({"ask": AWAIT}, timeout="1h", on_failure=on_failure("completed"))
    run.decide()
    run.wait("ask")
    assert run.state.status == "paused"
    due = run.due()
    assert due == pytest.approx(NOW + 3600)
    assert run.stopped(NOW + 3600) == ["execution:resumed", "execution:finishing"]
    assert run.scheduler.waiting == {}
    assert run.scheduler.take_changed() == {"ask"}
    assert run.decide(NOW + 3600) == ["started:undo"]
    assert run.succeed("undo") == ["execution:completed"]
    assert run.state.output == {"ask": None}


def test_a_time_limit_does_not_count_in_groups():
    """They have limits of their own."""
    run = ScheduledRun({"a": {}}, timeout="1s", **FINALLY)
    run.decide()
    run.succeed("a")
    assert run.due() is None
    assert not run.scheduler.must_stop(NOW + 100)


def test_no_time_limit_fires_while_the_run_is_held():
    """As for other timers."""
    run = ScheduledRun(MAIN, timeout="1s")
    run.decide()
    run.pause()
    assert not run.scheduler.must_stop(NOW + 100)
    run.resume()
    assert run.scheduler.must_stop(NOW + 100)


def test_a_driver_that_takes_over_goes_on_in_the_group():
    """From the log alone, and the group runs once."""
    run = ScheduledRun(MAIN, on_failure=on_failure(), **FINALLY)
    run.decide()
    run.fail("a")
    run.take_over()
    assert run.decide() == []
    assert run.succeed("undo") == ["execution:finishing", "started:tidy"]
    run.take_over()
    assert run.decide() == []
    assert run.succeed("tidy") == ["execution:failed"]


def test_a_run_goes_on_after_a_failure_that_is_allowed():
    """The next step runs, with the output null."""
    nodes: dict[str, Any] = {
        "a": {"on_error": "continue"},
        "b": {
            "type": "transform",
            "needs": ["a"],
            "when": "nodes.a.status == 'error' && nodes.a.output == null",
            "with": {"value": "${nodes.a.error}"},
        },
    }
    run = ScheduledRun(nodes, on_failure=on_failure())
    run.decide()
    assert run.fail("a") == ["started:b"]
    assert run.succeed("b") == ["execution:completed"]


@pytest.mark.parametrize(
    ("join", "after"), [("all", "started:c"), ("all_success", "skipped:c"), ("any", "started:c")]
)
def test_a_skipped_need_does_not_count_as_success(join: str, after: str):
    """`all` accepts a need that its own `when` has skipped, `all_success` does not."""
    nodes: dict[str, Any] = {
        "a": {},
        "b": {"when": "false"},
        "c": {"needs": ["a", "b"], "join": join},
    }
    run = ScheduledRun(nodes)
    run.decide()
    assert run.succeed("a")[0] == after


def test_defaults_apply_to_nodes_and_items_that_have_no_setting():
    """Not to the wait of an await; and a step of finally always has a limit."""
    work = {"for_each": "[1]", "do": {"type": "simulate"}}
    nodes: dict[str, Any] = {
        "a": {},
        "own": {"retry": {"max_attempts": 5}, "timeout": "9s"},
        "m": {"type": "map", "with": work},
        "ask": AWAIT,
    }
    defaults = {"retry": {"max_attempts": 3}, "timeout": "7s"}
    run = ScheduledRun(nodes, defaults=defaults, **FINALLY)

    def settings(step: str) -> tuple[int, str | None]:
        node = run.plan.step(step).node
        return (node.retry.max_attempts if node.retry else 0, node.timeout)

    assert settings("a") == settings("m[0]") == settings("tidy") == (3, "7s")
    assert settings("own") == (5, "9s")
    assert settings("ask") == (3, None)
    plain = ScheduledRun({"a": {}}, **FINALLY)
    assert plain.plan.step("tidy").node.timeout == CLEANUP_TIMEOUT
    assert plain.plan.step("a").node.timeout is None


def test_steps_of_a_group_read_the_main_part():
    """A node that never began counts as cancelled."""
    message = "${nodes.a.status} ${nodes.b.status}"
    tidy = {"type": "transform", "when": f"'{message}' != ''", "with": {"value": message}}
    fields: dict[str, Any] = {"timeout": "1s", "finally": {"nodes": {"tidy": tidy}}}
    run = ScheduledRun(MAIN, **fields)
    run.decide()
    run.stopped(NOW + 1)
    run.decide(NOW + 1)
    assert run.rendered("tidy")["value"] == "cancelled cancelled"


def test_a_cancel_in_finally_is_accepted_once():
    """A second request changes nothing."""
    run = ScheduledRun({"a": {}}, **FINALLY)
    run.decide()
    run.succeed("a")
    run.cancel("now")
    assert request_cancel(run.state, "again", "", NOW) is None
