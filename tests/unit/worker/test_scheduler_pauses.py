"""The scheduler in executions that a request holds, or that have only to wait."""

from harness.models.scheduled_run import NOW, ScheduledRun, short
from tailrace_shared.execution.commands import request_pause, request_resume
from tailrace_shared.execution.state import fold
from tailrace_worker.engine.decide.outcomes import Succeeded, lost
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal


def taken_over(run: ScheduledRun, now: float = NOW) -> list[str]:
    """Return the decisions of a driver that has read only the log."""
    run.take_over()
    return run.decide(now)


def test_a_held_execution_is_paused_when_its_last_running_step_has_ended():
    """It is not paused before, and no step starts meanwhile."""
    run = ScheduledRun({"a": {}, "b": {}, "c": {"needs": ["a"]}})
    run.decide()
    assert run.pause() == []
    assert run.end("a", Succeeded(1)) == []
    assert run.end("b", Succeeded(1)) == ["execution:paused"]
    assert run.pauses == [("requested", [])]
    assert run.resume() == ["execution:resumed", "started:c"]


def test_a_held_execution_is_paused_before_its_end():
    """All its steps have ended, and it goes on to its end when it is resumed."""
    run = ScheduledRun({"a": {}})
    run.decide()
    run.pause()
    assert run.end("a", Succeeded(1)) == ["execution:paused"]
    assert run.resume() == ["execution:resumed", "execution:completed"]


def test_an_execution_that_is_held_before_it_starts_starts_and_pauses():
    """Clients would not look for it among the queued ones."""
    run = ScheduledRun({"a": {}})
    assert run.pause() == ["execution:started", "execution:paused"]
    assert taken_over(run) == []
    assert run.resume() == ["execution:resumed", "started:a"]


def test_a_pause_and_a_resume_before_the_driver_reads_them_change_nothing():
    """Only the log knows of them."""
    run = ScheduledRun({"a": {}, "b": {"needs": ["a"]}})
    run.decide()
    run.log.append(request_pause(run.state, "p", "", NOW))  # type: ignore[arg-type]
    run.log.append(request_resume(fold(run.log), "r", NOW))  # type: ignore[arg-type]
    assert taken_over(run) == []
    assert run.end("a", Succeeded(1)) == ["started:b"]


def test_no_timer_is_due_in_a_held_execution():
    """This holds for delays and retries; after the resume, due timers fire."""
    run = ScheduledRun({"a": {}, "b": {}})
    run.decide()
    run.end("a", Wait(NOW + 10))
    run.retry("b", NOW + 20)
    assert run.due() == NOW + 10
    assert run.pause() == ["execution:paused"]
    assert run.due() is None
    assert taken_over(run, NOW + 60) == []
    assert run.resume() == ["execution:resumed"]
    assert run.due() == NOW + 10
    assert taken_over(run, NOW + 60) == ["completed:a", "started:b"]


def test_a_retry_after_a_crash_waits_for_the_resume():
    """The attempt that was lost has ended; its repetition would be something new."""
    run = ScheduledRun({"a": {}})
    run.decide()
    run.pause()
    step = run.step("a")
    again = lost(step, run.plan.step("a").node, "crash", "its worker was lost", NOW)
    assert run.record(again) == ["execution:paused"]
    assert run.resume() == ["execution:resumed", "started:a"]


def test_an_execution_that_waits_only_for_signals_is_paused():
    """The reason is the first one's."""
    run = ScheduledRun({"a": {}, "b": {}})
    run.decide()
    assert run.end("b", ForSignal("review")) == []
    assert run.end("a", ForSignal("approval")) == ["execution:paused"]
    ((reason, waiting),) = run.pauses
    assert reason in {"review", "approval"}
    assert sorted(waiting) == ["a", "b"]


def test_an_execution_is_not_paused_while_a_time_or_a_child_run_is_awaited():
    """Both proceed without a signal."""
    for outcome in (Wait(NOW + 10), ForChild("other", None)):
        run = ScheduledRun({"a": {}, "b": {}})
        run.decide()
        run.end("a", ForSignal())
        assert run.end("b", outcome) == []
        assert run.succeed("b", 1) == ["execution:paused"]


def test_a_request_holds_what_waits_for_a_signal_already():
    """It is paused for another reason; its resume takes it back to the first."""
    run = ScheduledRun({"a": {}})
    run.decide()
    assert run.end("a", ForSignal("approval")) == ["execution:paused"]
    assert run.pause() == ["execution:paused"]
    assert taken_over(run) == []
    assert run.resume() == ["execution:resumed", "execution:paused"]
    assert [reason for reason, _waiting in run.pauses] == ["approval", "requested", "approval"]


def test_a_signal_in_a_held_execution_is_applied_after_its_resume():
    """It was accepted before; the step accepts no other signal."""
    run = ScheduledRun({"a": {}, "b": {"needs": ["a"]}})
    run.decide()
    run.end("a", ForSignal())
    run.pause()
    assert run.signal("a") == []
    assert run.resume() == ["execution:resumed", "completed:a", "started:b"]


def test_a_cancelled_execution_decides_only_its_end():
    """Signals from before the cancellation still count, and are preceded by a resume."""
    run = ScheduledRun({"a": {}, "b": {"needs": ["a"]}})
    run.decide()
    run.end("a", ForSignal())
    run.pause()
    run.signal("a")
    assert run.cancel("enough") == []
    assert run.stopped() == ["execution:resumed", "completed:a", "execution:cancelled"]
    assert run.state.error == "enough"


def test_the_next_driver_decides_as_the_one_before_would_have():
    """At every moment of a run with pauses, signals and times."""
    run = ScheduledRun({"a": {}, "b": {"needs": ["a"]}, "c": {}})
    run.decide()
    run.end("a", ForSignal())
    run.end("c", Wait(NOW + 5))
    run.pause()
    run.signal("a")
    run.resume()
    run.end("b", Succeeded(1))
    run.decide(NOW + 5)
    assert short(run.log)[-1] == "execution:completed"
    for length in range(1, len(run.log) + 1):
        first, second = (Scheduler(run.plan, fold(run.log[:length])) for _ in range(2))
        assert first.next_due == second.next_due
        assert short(first.decide(NOW + 5)) == short(second.decide(NOW + 5))
