"""The summary of an execution, as lists show it."""

import msgspec

from tailrace_shared.execution.progress import progress_percent
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.transitions import ExecutionStatus


class RunSummary(msgspec.Struct, frozen=True):
    """A run in a list.

    Attributes:
        parent: The execution whose step started it.
        rerun_of: The execution that it repeats.
        tags: Its tags, those of its definition included.
        waits: The number of its steps that wait for a signal.
        progress: The share of its steps that have ended, in percent, when its status changed last.
        eta_ms: The estimated remaining time at that moment, in milliseconds; null if unknown.
    """

    execution_id: str
    workflow_id: str
    version: int
    status: ExecutionStatus
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    error: str | None
    parent: str | None = None
    rerun_of: str | None = None
    tags: list[str] = []
    waits: int = 0
    progress: float = 0.0
    eta_ms: int | None = None


def summary_of(state: ExecutionState, nodes: int = 0, eta_ms: int | None = None) -> RunSummary:
    """Return the summary of an execution.

    Args:
        state: the execution.
        nodes: the number of nodes of its definition; 0 if unknown.
        eta_ms: the estimated remaining time, in milliseconds; None if unknown.
    """
    return RunSummary(
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        version=state.version,
        status=state.status,
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        duration_ms=state.duration_ms,
        error=state.error,
        parent=None if state.parent is None else state.parent.execution_id,
        rerun_of=state.rerun_of,
        tags=state.tags,
        waits=state.signal_waits,
        progress=progress_percent(state, nodes),
        eta_ms=0 if state.is_terminal else eta_ms,
    )
