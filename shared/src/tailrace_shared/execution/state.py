"""The state of an execution: what its events fold to.

One table says which event may follow in which status, for steps and for executions; the fold
is that table and a little bookkeeping. The worker folds to recover, the API to answer, so what
both believe is the log and nothing else.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from tailrace_shared.errors import TailraceError
from tailrace_shared.execution.events import (
    CommandRequested,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionQueued,
    ExecutionStarted,
    StepCompleted,
    StepEvent,
    StepFailed,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepWaiting,
    parse_timestamp,
)

ExecutionStatus = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
StepStatus = Literal[
    "pending", "running", "waiting", "retrying", "success", "error", "skipped", "cancelled"
]

TERMINAL_STATUSES: Final = frozenset({"completed", "failed", "cancelled"})
SETTLED: Final = frozenset({"success", "error", "skipped", "cancelled"})

# What an event makes of a step in a given status. What is not in the table is illegal.
_STEP_TRANSITIONS: Final[Mapping[tuple[StepStatus, type], StepStatus]] = {
    ("pending", StepStarted): "running",
    ("pending", StepSkipped): "skipped",
    # A node whose `when` cannot be evaluated fails without having run.
    ("pending", StepFailed): "error",
    ("running", StepProgressed): "running",
    ("running", StepLogged): "running",
    ("running", StepWaiting): "waiting",
    ("running", StepCompleted): "success",
    ("running", StepFailed): "error",
    ("running", StepRetrying): "retrying",
    ("waiting", StepCompleted): "success",
    ("retrying", StepStarted): "running",
}

_EXECUTION_TRANSITIONS: Final[Mapping[tuple[ExecutionStatus, type], ExecutionStatus]] = {
    ("queued", ExecutionStarted): "running",
    # A definition that cannot be found fails the execution before it has started.
    ("queued", ExecutionFailed): "failed",
    ("queued", ExecutionCancelled): "cancelled",
    ("queued", CommandRequested): "queued",
    ("running", CommandRequested): "running",
    ("running", ExecutionCompleted): "completed",
    ("running", ExecutionFailed): "failed",
    ("running", ExecutionCancelled): "cancelled",
}


class IllegalEventError(TailraceError):
    """An event that the state machine does not allow: the log is not one of ours."""


class StepState(msgspec.Struct):
    """What is known of one step."""

    node_id: str
    node_type: str = ""
    status: StepStatus = "pending"
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    started_at: str | None = None
    completed_at: str | None = None
    duration_ms: int | None = None
    output: Any = None
    error: str | None = None
    percent: float | None = None
    due: float | None = None
    skipped_by_when: bool = False


class ExecutionState(msgspec.Struct):
    """What is known of one execution. Steps that no event has named are pending."""

    execution_id: str = ""
    workflow_id: str = ""
    workflow_name: str = ""
    version: int = 0
    status: ExecutionStatus = "queued"
    input: Any = None
    output: Any = None
    output_omitted: bool = False
    error: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration_ms: int | None = None
    cancel: CommandRequested | None = None
    steps: dict[str, StepState] = {}

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can happen any more."""
        return self.status in TERMINAL_STATUSES

    def step(self, node_id: str) -> StepState:
        """Return the state of a step."""
        state = self.steps.get(node_id)
        if state is None:
            state = self.steps[node_id] = StepState(node_id)
        return state

    def apply(self, event: Event) -> None:
        """Take one event into account.

        Raises:
            IllegalEventError: it cannot follow what came before.
        """
        if isinstance(event, StepEvent):
            self._apply_to_step(event)
        else:
            self._apply_to_execution(event)

    def _apply_to_execution(self, event: Event) -> None:
        if isinstance(event, ExecutionQueued):
            self._create(event)
            return
        after = _EXECUTION_TRANSITIONS.get((self.status, type(event)))
        if after is None or self.created_at is None:
            raise IllegalEventError(f"{_name(event)} in an execution that is {self.status}")
        self.status = after
        match event:
            case ExecutionStarted():
                self.started_at = event.timestamp
            case CommandRequested():
                self.cancel = self.cancel or event
            case ExecutionCompleted() | ExecutionFailed() | ExecutionCancelled():
                self._finish(event)
            case _:
                pass

    def _create(self, event: ExecutionQueued) -> None:
        if self.created_at is not None:
            raise IllegalEventError("execution:queued is not the first event")
        self.execution_id = event.data.execution_id
        self.workflow_id = event.data.workflow_id
        self.workflow_name = event.data.workflow_name
        self.version = event.data.version
        self.input = event.data.input
        self.created_at = event.timestamp

    def _finish(self, event: ExecutionCompleted | ExecutionFailed | ExecutionCancelled) -> None:
        self.finished_at = event.timestamp
        self.duration_ms = event.data.execution_time_ms
        match event:
            case ExecutionCompleted():
                self.output = event.data.output
                self.output_omitted = event.data.output_omitted
            case ExecutionFailed():
                self.error = event.data.error_message
            case ExecutionCancelled():
                self.error = event.data.reason or None
        for step in self.steps.values():
            if step.status not in SETTLED:
                step.status = "cancelled"
                step.completed_at = event.timestamp
                if step.started_at is not None:
                    elapsed = parse_timestamp(event.timestamp) - parse_timestamp(step.started_at)
                    step.duration_ms = max(0, round(elapsed * 1000))

    def _apply_to_step(self, event: StepEvent) -> None:
        node_id = event.data.node_id
        step = self.steps.get(node_id) or StepState(node_id)
        after = _STEP_TRANSITIONS.get((step.status, type(event)))
        if after is None or self.status != "running":
            raise IllegalEventError(
                f"{_name(event)} for {node_id}, which is {step.status}, "
                f"in an execution that is {self.status}"
            )
        self.steps[node_id] = step
        step.status = after
        step.node_type = event.data.node_type
        match event:
            case StepStarted():
                step.attempt = event.data.attempt
                step.started_at = event.data.started_at
                step.error = step.due = step.percent = None
            case StepCompleted():
                step.completed_at = event.data.completed_at
                step.duration_ms = event.data.duration_ms
                step.output = event.data.output
                step.due = None
            case StepFailed():
                step.completed_at = event.data.completed_at
                step.duration_ms = event.data.duration_ms
                step.error = event.data.error
            case StepRetrying():
                step.failures += event.data.cause == "error"
                step.crashes += event.data.cause == "crash"
                step.error = event.data.error
                step.due = parse_timestamp(event.data.retry_at)
            case StepWaiting():
                step.due = parse_timestamp(event.data.until)
            case StepSkipped():
                step.skipped_by_when = event.data.reason == "when"
            case StepProgressed():
                step.percent = event.data.percent
            case StepLogged():
                pass


def fold(events: Iterable[Event]) -> ExecutionState:
    """Return the state that ``events`` lead to.

    Raises:
        IllegalEventError: they are not a legal path of the state machine.
    """
    state = ExecutionState()
    for event in events:
        state.apply(event)
    return state


def _name(event: Event) -> str:
    tag = type(event).__struct_config__.tag
    return str(tag)
