"""The scheduler in executions that are held by a request, or have nothing to do but wait."""

from typing import Any

from harness.generators.workflows import definition
from tailrace_shared.execution.commands import (
    create,
    request_cancel,
    request_pause,
    request_resolve,
    request_resume,
)
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Event,
    ExecutionPaused,
    StepEvent,
)
from tailrace_shared.execution.state import fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.decide.outcomes import Succeeded, completed, end_event, lost, retrying
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal

NOW = 1_700_000_000.0
STAMP = format_timestamp(NOW)


class Run:
    """One execution: its scheduler, its log, and what happens to it."""

    def __init__(self, nodes: dict[str, dict[str, Any]], **fields: Any) -> None:
        self.plan = Plan(definition(nodes, **fields))
        self.log: list[Event] = [create("e1", self.plan.definition, 1, None, NOW)]
        self.scheduler = Scheduler(self.plan, fold(self.log))

    def ask(self, command: CommandRequested | None) -> list[str]:
        """Append a command; as a worker would, read the log again and decide."""
        assert command is not None
        self.log.append(command)
        return self.taken_over()

    def taken_over(self, now: float = NOW) -> list[str]:
        """Decide as a worker that has read nothing but the log."""
        self.scheduler = Scheduler(self.plan, fold(self.log))
        return self.decide(now)

    def decide(self, now: float = NOW) -> list[str]:
        """Return what must happen, written short."""
        decided: list[Event] = []
        while some := self.scheduler.decide(now):
            decided += some
        self.log += decided
        return short(decided)

    def record(self, event: Event) -> list[str]:
        """Record what a step did; returns what follows."""
        self.log.append(self.scheduler.record(event))
        return self.decide()

    def end(self, step: str, outcome: Any, now: float = NOW) -> list[str]:
        """Record how an attempt ended; returns what follows."""
        state, node = self.scheduler.state.steps[step], self.plan.step(step).node
        return self.record(end_event(state, outcome, node, now, 0.0))

    def pause(self) -> list[str]:
        """Ask for a pause."""
        return self.ask(request_pause(self.scheduler.state, "pause", "", NOW))

    def resume(self) -> list[str]:
        """Ask for the end of a pause."""
        return self.ask(request_resume(self.scheduler.state, f"resume{len(self.log)}", NOW))

    def signal(self, step: str) -> list[str]:
        """Give a step its signal."""
        signal = Command("e1", "resolve", f"{step}{len(self.log)}", node_id=step)
        return self.ask(request_resolve(self.scheduler.state, signal, NOW))

    def due(self) -> float | None:
        """When the next timer is due."""
        return self.scheduler.next_due

    @property
    def pauses(self) -> list[tuple[str, list[str]]]:
        """Why the execution has paused, each time, and which steps waited."""
        return [
            (event.data.reason, event.data.waiting)
            for event in self.log
            if isinstance(event, ExecutionPaused)
        ]


def short(events: list[Event]) -> list[str]:
    """Write events as `type:node`, for comparing."""
    return [
        f"{str(type(event).__struct_config__.tag).partition(':')[2]}:{event.data.node_id}"
        if isinstance(event, StepEvent)
        else str(type(event).__struct_config__.tag).partition(":")[2]
        for event in events
    ]


def test_a_held_execution_is_paused_when_its_last_running_step_has_ended():
    """Not before, and nothing starts meanwhile."""
    run = Run({"a": {}, "b": {}, "c": {"needs": ["a"]}})
    run.decide()
    assert run.pause() == []
    assert run.end("a", Succeeded(1)) == []
    assert run.end("b", Succeeded(1)) == ["paused"]
    assert run.pauses == [("requested", [])]
    assert run.resume() == ["resumed", "started:c"]


def test_a_held_execution_is_paused_before_its_end():
    """All its steps have ended, and it goes on to its end when it is resumed."""
    run = Run({"a": {}})
    run.decide()
    run.pause()
    assert run.end("a", Succeeded(1)) == ["paused"]
    assert run.resume() == ["resumed", "completed"]


def test_an_execution_that_is_held_before_it_starts_starts_and_pauses():
    """Clients would not look for it among the queued ones."""
    run = Run({"a": {}})
    assert run.pause() == ["started", "paused"]
    assert run.taken_over() == []
    assert run.resume() == ["resumed", "started:a"]


def test_a_pause_and_a_resume_before_the_driver_reads_them_change_nothing():
    """Only the log knows of them."""
    run = Run({"a": {}, "b": {"needs": ["a"]}})
    run.decide()
    run.log.append(request_pause(run.scheduler.state, "p", "", NOW))  # type: ignore[arg-type]
    run.log.append(request_resume(fold(run.log), "r", NOW))  # type: ignore[arg-type]
    assert run.taken_over() == []
    assert run.end("a", Succeeded(1)) == ["started:b"]


def test_no_timer_is_due_in_a_held_execution():
    """Neither a delay's nor a retry's; after the resume they fire if their time has come."""
    run = Run({"a": {}, "b": {}})
    run.decide()
    run.end("a", Wait(NOW + 10))
    run.record(retrying(run.scheduler.state.steps["b"], "error", "broken", NOW + 20, STAMP))
    assert run.due() == NOW + 10
    assert run.pause() == ["paused"]
    assert run.due() is None
    assert run.taken_over(NOW + 60) == []
    assert run.resume() == ["resumed"]
    assert run.due() == NOW + 10
    assert run.taken_over(NOW + 60) == ["completed:a", "started:b"]


def test_a_retry_after_a_crash_waits_for_the_resume():
    """The attempt that was lost has ended; its repetition would be something new."""
    run = Run({"a": {}})
    run.decide()
    run.pause()
    step = run.scheduler.state.steps["a"]
    again = lost(step, run.plan.step("a").node, "crash", "its worker was lost", NOW)
    assert run.record(again) == ["paused"]
    assert run.resume() == ["resumed", "started:a"]


def test_an_execution_that_waits_only_for_signals_is_paused():
    """The reason is the first one's."""
    run = Run({"a": {}, "b": {}})
    run.decide()
    assert run.end("b", ForSignal("review")) == []
    assert run.end("a", ForSignal("approval")) == ["paused"]
    ((reason, waiting),) = run.pauses
    assert reason in {"review", "approval"}
    assert sorted(waiting) == ["a", "b"]


def test_an_execution_is_not_paused_while_a_time_or_a_child_run_is_awaited():
    """Both proceed without a signal."""
    for outcome in (Wait(NOW + 10), ForChild("other", None)):
        run = Run({"a": {}, "b": {}})
        run.decide()
        run.end("a", ForSignal())
        assert run.end("b", outcome) == []
        assert run.record(completed(run.scheduler.state.steps["b"], 1, STAMP)) == ["paused"]


def test_a_request_holds_what_waits_for_a_signal_already():
    """It is paused for another reason; its resume takes it back to the first."""
    run = Run({"a": {}})
    run.decide()
    assert run.end("a", ForSignal("approval")) == ["paused"]
    assert run.pause() == ["paused"]
    assert run.taken_over() == []
    assert run.resume() == ["resumed", "paused"]
    assert [reason for reason, _waiting in run.pauses] == ["approval", "requested", "approval"]


def test_a_signal_in_a_held_execution_is_applied_after_its_resume():
    """It was accepted before; the step accepts no other signal."""
    run = Run({"a": {}, "b": {"needs": ["a"]}})
    run.decide()
    run.end("a", ForSignal())
    run.pause()
    assert run.signal("a") == []
    assert run.resume() == ["resumed", "completed:a", "started:b"]


def test_a_cancelled_execution_decides_only_its_end():
    """Signals from before the cancellation still count, and are preceded by a resume."""
    run = Run({"a": {}, "b": {"needs": ["a"]}})
    run.decide()
    run.end("a", ForSignal())
    run.pause()
    run.signal("a")
    assert run.ask(request_cancel(run.scheduler.state, "c", "enough", NOW)) == []
    assert short(run.scheduler.cancelled(NOW)) == ["resumed", "completed:a", "cancelled"]
    assert run.scheduler.state.error == "enough"


def test_the_next_driver_decides_as_the_one_before_would_have():
    """At every moment of a run with pauses, signals and times."""
    run = Run({"a": {}, "b": {"needs": ["a"]}, "c": {}})
    run.decide()
    run.end("a", ForSignal())
    run.end("c", Wait(NOW + 5))
    run.pause()
    run.signal("a")
    run.resume()
    run.end("b", Succeeded(1))
    run.decide(NOW + 5)
    assert short(run.log)[-1] == "completed"
    for length in range(1, len(run.log) + 1):
        first, second = (Scheduler(run.plan, fold(run.log[:length])) for _ in range(2))
        assert first.next_due == second.next_due
        assert short(first.decide(NOW + 5)) == short(second.decide(NOW + 5))
