"""The state that a tenant's streams must show, folded from the whole log."""

from collections.abc import Iterable

from tailrace_shared.execution import events as ev
from tailrace_shared.execution.state import ExecutionState

_RESULTS = {"completed": "completed", "failed": "failed", "cancelled": "idle"}


class FoldedTenant:
    """All executions of one tenant, folded event by event."""

    def __init__(self) -> None:
        self.states: dict[str, ExecutionState] = {}
        self._last: dict[str, str] = {}

    def take(self, execution: str, events: Iterable[ev.Event]) -> None:
        """Apply a commit."""
        state = self.states.setdefault(execution, ExecutionState())
        for event in events:
            state.apply(event)
            if state.is_terminal:
                self._last[state.workflow_id] = state.status

    def waits(self) -> set[tuple[str, str, str]]:
        """Return the execution, the step and the start of each wait for a signal."""
        return {
            (execution, step.node_id, step.waiting_since)
            for execution, state in self.states.items()
            for step in state.steps.values()
            if step.waits_for_signal
        }

    def pipeline(self, workflow: str) -> str:
        """Return the status of a pipeline."""
        statuses = {
            state.status
            for state in self.states.values()
            if state.workflow_id == workflow and not state.is_terminal
        }
        if statuses & {"queued", "running"}:
            return "active"
        return "paused" if statuses else _RESULTS.get(self._last.get(workflow, ""), "idle")
