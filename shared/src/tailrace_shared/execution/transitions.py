"""The state machine of executions and steps."""

from collections.abc import Mapping
from typing import Final, Literal

from tailrace_shared.execution.events import (
    CommandRequested,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionFinishing,
    ExecutionPaused,
    ExecutionResumed,
    ExecutionStarted,
    StepCompleted,
    StepExpanded,
    StepFailed,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepWaiting,
)

ExecutionStatus = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]
StepStatus = Literal[
    "pending", "running", "waiting", "retrying", "success", "error", "skipped", "cancelled"
]

TERMINAL_STATUSES: Final = frozenset({"completed", "failed", "cancelled"})
SETTLED: Final = frozenset({"success", "error", "skipped", "cancelled"})

# The status of a step after an event. Combinations that are not in the table are illegal.
STEP_TRANSITIONS: Final[Mapping[tuple[StepStatus, type], StepStatus]] = {
    ("pending", StepStarted): "running",
    ("pending", StepSkipped): "skipped",
    # A node fails without an attempt if its `when` cannot be evaluated.
    ("pending", StepFailed): "error",
    # A rerun reuses outputs of the execution that it repeats.
    ("pending", StepCompleted): "success",
    # A step that an actor runs waits until an actor is free.
    ("pending", StepWaiting): "waiting",
    ("running", StepProgressed): "running",
    ("running", StepLogged): "running",
    ("running", StepExpanded): "running",
    ("running", StepWaiting): "waiting",
    ("running", StepCompleted): "success",
    ("running", StepFailed): "error",
    ("running", StepRetrying): "retrying",
    ("waiting", StepStarted): "running",
    ("waiting", StepCompleted): "success",
    ("waiting", StepFailed): "error",
    ("waiting", StepRetrying): "retrying",
    ("retrying", StepStarted): "running",
    ("retrying", StepWaiting): "waiting",
}

EXECUTION_TRANSITIONS: Final[Mapping[tuple[ExecutionStatus, type], ExecutionStatus]] = {
    ("queued", ExecutionStarted): "running",
    # The execution fails before it starts if its definition cannot be found.
    ("queued", ExecutionFailed): "failed",
    ("queued", ExecutionCancelled): "cancelled",
    ("queued", CommandRequested): "queued",
    ("running", CommandRequested): "running",
    ("running", ExecutionPaused): "paused",
    ("running", ExecutionFinishing): "running",
    ("running", ExecutionCompleted): "completed",
    ("running", ExecutionFailed): "failed",
    ("running", ExecutionCancelled): "cancelled",
    ("paused", CommandRequested): "paused",
    # An execution that waits for signals can be paused by a request as well.
    ("paused", ExecutionPaused): "paused",
    ("paused", ExecutionResumed): "running",
    ("paused", ExecutionCancelled): "cancelled",
}
