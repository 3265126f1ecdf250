"""One execution as the scheduler sees it: its log, decisions and facts, without any I/O.

The DSL of the scheduler's tests. Decisions come back short, as ``started:a`` or
``execution:paused``, so that a test reads as a story.
"""

from collections.abc import Callable, Iterable
from typing import Any

from harness.generators.workflows import definition
from tailrace_shared.execution.commands import (
    create,
    request_cancel,
    request_pause,
    request_resolve,
    request_resume,
)
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Event,
    ExecutionPaused,
    OutputRef,
    StepEvent,
)
from tailrace_shared.execution.state import ExecutionState, StepState, fold
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Definition
from tailrace_worker.engine.decide.outcomes import completed, end_event, failed, retrying
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.nodes.waits import ForSignal

NOW = 1_700_000_000.0
STAMP = format_timestamp(NOW)


class ScheduledRun:
    """An execution with its scheduler and its log.

    Args:
        workflow: the definition, or its nodes.
        is_actor: returns whether actors run a node type.
        fields: further fields of the definition, if only its nodes are given.
    """

    def __init__(
        self,
        workflow: Definition | dict[str, dict[str, Any]],
        run_input: Any = None,
        is_actor: Callable[[str], bool] = lambda _type: False,
        **fields: Any,
    ) -> None:
        if isinstance(workflow, dict):
            workflow = definition(workflow, **fields)
        self.plan = Plan(workflow, is_actor)
        self.log: list[Event] = [create("e1", workflow, 1, run_input, NOW)]
        self.scheduler = Scheduler(self.plan, fold(self.log))

    @property
    def state(self) -> ExecutionState:
        """The state that the scheduler has folded."""
        return self.scheduler.state

    def due(self) -> float | None:
        """Return when the next timer is due."""
        return self.scheduler.next_due

    @property
    def pauses(self) -> list[tuple[str, list[str]]]:
        """The reason of each pause, and the steps that waited."""
        pauses = [event.data for event in self.log if isinstance(event, ExecutionPaused)]
        return [(pause.reason, pause.waiting) for pause in pauses]

    def step(self, step_id: str) -> StepState:
        """Return the state of a step."""
        return self.state.steps[step_id]

    def decide(self, now: float = NOW) -> list[str]:
        """Append all that must happen at a time; return it short."""
        decided: list[Event] = []
        while some := self.scheduler.decide(now):
            decided += some
        self.log += decided
        return short(decided)

    def stopped(self, now: float = NOW) -> list[str]:
        """Append the events that stop an execution; return them short."""
        decided = self.scheduler.stopped(now)
        self.log += decided
        return short(decided)

    def take_over(self) -> None:
        """Continue as a driver that has read only the log."""
        self.scheduler = Scheduler(self.plan, fold(self.log))

    # Facts, each of which returns the decisions that follow

    def record(self, event: Event, now: float = NOW) -> list[str]:
        """Record a fact."""
        self.log.append(self.scheduler.record(event))
        return self.decide(now)

    def succeed(self, step_id: str, output: Any = None, ref: OutputRef | None = None) -> list[str]:
        """Record that a step succeeded."""
        return self.record(completed(self.step(step_id), output, STAMP, ref))

    def fail(self, step_id: str) -> list[str]:
        """Record that a step failed for good."""
        return self.record(failed(self.step(step_id), "broken", STAMP))

    def retry(self, step_id: str, at: float) -> list[str]:
        """Record that an attempt failed, and that the next one is due at a time."""
        return self.record(retrying(self.step(step_id), "error", "broken", at, STAMP))

    def end(self, step_id: str, outcome: Any) -> list[str]:
        """Record the outcome of an attempt."""
        node = self.plan.step(step_id).node
        return self.record(end_event(self.step(step_id), outcome, node, NOW, 0.0))

    def wait(self, step_id: str) -> list[str]:
        """Let a step wait for a signal."""
        return self.end(step_id, ForSignal())

    def rendered(self, step_id: str) -> Any:
        """Return the parameters of a step."""
        return render(self.plan.step(step_id).parameters, self.state)

    # Commands, each of which is decided on by a driver that has read only the log

    def command(self, command: CommandRequested | None, now: float = NOW) -> list[str]:
        """Append a command that was accepted."""
        assert command is not None
        self.log.append(command)
        self.take_over()
        return self.decide(now)

    def pause(self) -> list[str]:
        """Request a pause."""
        return self.command(request_pause(self.state, f"pause{len(self.log)}", "", NOW))

    def resume(self) -> list[str]:
        """Request the end of a pause."""
        return self.command(request_resume(self.state, f"resume{len(self.log)}", NOW))

    def cancel(self, reason: str) -> list[str]:
        """Request a cancellation."""
        return self.command(request_cancel(self.state, "cancel", reason, NOW))

    def accepted_signal(self, step_id: str, **fields: Any) -> CommandRequested:
        """Return the signal of a step, which must be accepted."""
        command = Command("e1", "resolve", f"{step_id}{len(self.log)}", node_id=step_id, **fields)
        accepted = request_resolve(self.state, command, NOW)
        assert accepted is not None
        return accepted

    def signal(self, step_id: str, **fields: Any) -> list[str]:
        """Send the signal of a step."""
        return self.command(self.accepted_signal(step_id, **fields))


def short(events: Iterable[Event]) -> list[str]:
    """Return events as ``started:a`` for those of steps, as ``execution:paused`` for others."""
    return [_short(event) for event in events]


def _short(event: Event) -> str:
    tag = str(type(event).__struct_config__.tag)
    if not isinstance(event, StepEvent):
        return tag
    return f"{tag.partition(':')[2]}:{event.data.node_id}"
