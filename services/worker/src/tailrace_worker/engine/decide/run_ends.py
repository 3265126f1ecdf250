"""How a run ends, by its steps, and the events that record it. Pure."""

from typing import Literal, NamedTuple

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import (
    MAX_VALUE_BYTES,
    Cancelled,
    Completed,
    Event,
    ExecutionCancelled,
    ExecutionCompleted,
    ExecutionFailed,
    ExecutionFinishing,
    Failed,
    Finishing,
)
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.workflow.definition import Group
from tailrace_shared.workflow.graph import Graph
from tailrace_worker.engine.decide.outcomes import (
    MAX_ERROR_CHARACTERS,
    MAX_OPEN_LISTED,
    MAX_WAITING_LISTED,
    generated_document,
)
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks


class RunOutcome(NamedTuple):
    """How the run ends, as far as it is known at the end of a part.

    Attributes:
        node_id: the first step that failed.
    """

    status: Literal["completed", "failed", "cancelled"]
    message: str = ""
    node_id: str | None = None


def outcome_of(plan: Plan, state: ExecutionState, part: Graph) -> RunOutcome:
    """Return how the run ends by its parts so far.

    Args:
        part: the last of them, which has settled.
    """
    finishing = state.finishing
    if state.cancel is not None:
        return RunOutcome("cancelled")
    broken = _first_failed(plan, state, part)
    if finishing is None:
        return broken or RunOutcome("completed")
    before = RunOutcome(finishing.outcome, finishing.error_message, finishing.node_id)
    if finishing.group == "finally":
        return broken if broken and before.status == "completed" else before
    on_failure = plan.definition.on_failure
    is_mended = on_failure is not None and on_failure.then == "completed" and not broken
    return RunOutcome("completed") if is_mended else before


def _first_failed(plan: Plan, state: ExecutionState, part: Graph) -> RunOutcome | None:
    """Return the outcome by the first step of a part whose failure is a failure of the run.

    The order is that of the graph.
    """
    for node in part.order:
        step = state.steps[node]
        if step.status == "error" and not goes_on_after(plan, node):
            return RunOutcome("failed", (step.error or "")[:MAX_ERROR_CHARACTERS], node)
    return None


def goes_on_after(plan: Plan, node: str) -> bool:
    """Return whether a failure of a node counts as a success without an output."""
    return plan.nodes[node].node.on_error == "continue"


def group_after(plan: Plan, part: Group | None, outcome: RunOutcome) -> Group | None:
    """Return the group of nodes that follows a part (None: the main part), if one does."""
    if part is None and outcome.status == "failed" and "on_failure" in plan.parts:
        return "on_failure"
    return "finally" if part != "finally" and "finally" in plan.parts else None


def finishing_event(
    state: ExecutionState, group: Group, outcome: RunOutcome, stamp: str
) -> ExecutionFinishing:
    """Return the event that begins a group of nodes."""
    finishing = Finishing(
        state.execution_id,
        "running",
        group,
        outcome.status,
        outcome.message,
        outcome.node_id,
        state.waiting(MAX_WAITING_LISTED),
        state.open_steps(MAX_OPEN_LISTED),
    )
    return ExecutionFinishing(finishing, stamp)


def last_event(
    plan: Plan,
    state: ExecutionState,
    outcome: RunOutcome,
    marks: SensitivityMarks | None,
    stamp: str,
) -> Event:
    """Return the event that ends a run."""
    match outcome.status:
        case "cancelled":
            return _cancelled(state, stamp)
        case "failed":
            return _failed(state, outcome, stamp)
        case "completed":
            return _completed(plan, state, marks, stamp)


def _cancelled(state: ExecutionState, stamp: str) -> Event:
    end = Cancelled(
        state.execution_id,
        "cancelled",
        _elapsed_ms(state, stamp),
        state.cancel.data.reason if state.cancel else "",
        state.waiting(MAX_WAITING_LISTED),
        state.open_steps(MAX_OPEN_LISTED),
    )
    return ExecutionCancelled(end, stamp)


def _failed(state: ExecutionState, outcome: RunOutcome, stamp: str) -> Event:
    failure = Failed(
        state.execution_id,
        "failed",
        _elapsed_ms(state, stamp),
        outcome.message,
        outcome.node_id,
        state.waiting(MAX_WAITING_LISTED),
        state.open_steps(MAX_OPEN_LISTED),
    )
    return ExecutionFailed(failure, stamp)


def _completed(
    plan: Plan, state: ExecutionState, marks: SensitivityMarks | None, stamp: str
) -> Event:
    elapsed = _elapsed_ms(state, stamp)
    try:
        output, is_omitted = _output(plan, state)
    except ExpressionError as error:
        message = f"output: {error}"[:MAX_ERROR_CHARACTERS]
        return ExecutionFailed(Failed(state.execution_id, "failed", elapsed, message), stamp)
    pointers = [] if marks is None else marks.output_pointers(output)
    document = None if pointers else generated_document(output)
    # It follows from the log; repeating it is only a convenience.
    if not is_omitted and len(msgspec.json.encode(output)) > MAX_VALUE_BYTES:
        output, is_omitted = None, True
    end = Completed(
        state.execution_id, "completed", elapsed, output, is_omitted, pointers, document
    )
    return ExecutionCompleted(end, stamp)


def _output(plan: Plan, state: ExecutionState) -> tuple[object, bool]:
    """Return the output of a run, and whether the event omits it."""
    if plan.output is not None:
        return render(plan.output, state, budget=plan.budget()), False
    # After a timeout that was made good, some have never begun.
    leaves = [state.steps[node] for node in plan.graph.leaves if node in state.steps]
    if any(isinstance(leaf.output, msgspec.UnsetType) for leaf in leaves):
        return None, True
    return {leaf.node_id: leaf.output for leaf in leaves}, False


def _elapsed_ms(state: ExecutionState, stamp: str) -> int:
    begun = state.started_at or state.created_at or stamp
    return max(0, round((parse_timestamp(stamp) - parse_timestamp(begun)) * 1000))
