"""The progress of an execution: the share of its steps that have ended."""

from typing import Final

from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.state import ExecutionState, StepState

_DONE: Final = frozenset({"success", "error", "skipped"})


def progress_percent(state: ExecutionState, nodes: int) -> float:
    if state.status == "completed":
        return 100.0
    steps = [step for step in state.steps.values() if split_item_id(step.node_id)[1] is None]
    total = max(nodes, len(steps))
    done = sum(_share(step, state) for step in steps)
    return round(100 * done / total, 1) if total else 0.0


def _share(step: StepState, state: ExecutionState) -> float:
    if step.status in _DONE:
        return 1.0
    if step.status != "running":
        return 0.0
    if step.items:
        items = (state.steps.get(item_id(step.node_id, i)) for i in range(len(step.items)))
        return sum(_share(item, state) for item in items if item) / len(step.items)
    return min(max(step.percent or 0.0, 0.0), 100.0) / 100
