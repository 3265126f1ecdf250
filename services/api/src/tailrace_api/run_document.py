"""The run document: an execution as people and polling clients read it. Pure.

It is the definition's nodes, each with what the log says of it; steps of which the log says
nothing are pending, or were overtaken by the end.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from tailrace_shared.execution.estimate import remaining_seconds
from tailrace_shared.execution.events import format_timestamp, split_commit
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.position import StreamPosition
from tailrace_shared.workflow.definition import Definition, Node
from tailrace_shared.workflow.graph import Graph, graph_of


class StepDocument(msgspec.Struct):
    """One step of a run."""

    node_id: str
    node_type: str
    name: str
    status: str
    attempt: int
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    output: Any
    error: str | None
    waiting_for: dict[str, str] | None


class LogEntry(msgspec.Struct):
    """One event of the log, with the id that it has on streams."""

    id: str
    type: str
    data: msgspec.Raw
    timestamp: str


class RunDocument(msgspec.Struct, omit_defaults=True):
    """A run; ``logs`` is there if it was asked for."""

    execution_id: str
    workflow_id: str
    version: int
    status: str
    input: Any
    output: Any
    error: str | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    progress: float
    eta_ms: int | None
    parent: str | None
    rerun_of: str | None
    steps: list[StepDocument]
    logs: list[LogEntry] | msgspec.UnsetType = msgspec.UNSET


class _Event(msgspec.Struct):
    type: str
    data: msgspec.Raw
    timestamp: str


_decode_event = msgspec.json.Decoder(_Event).decode


def log_entries(epoch: str, sequence: int, payload: bytes) -> Iterable[LogEntry]:
    """Yield the events of a commit as entries of the document."""
    for index, stored in enumerate(split_commit(payload)):
        event = _decode_event(stored)
        event_id = str(StreamPosition(epoch, sequence, index))
        yield LogEntry(event_id, event.type, event.data, event.timestamp)


def run_document(
    state: ExecutionState,
    definition: Definition | None,
    now: float,
    logs: list[LogEntry] | msgspec.UnsetType = msgspec.UNSET,
) -> RunDocument:
    """Return the document of a run.

    Args:
        state: what its log says.
        definition: the version that it runs; None if that is not to be had any more.
        now: seconds since the epoch.
        logs: the entries to add.
    """
    nodes = definition.nodes if definition else {}
    graph = graph_of(definition) if definition else None
    return RunDocument(
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        version=state.version,
        status=state.status,
        input=state.input,
        output=_output(state, definition, graph),
        error=state.error,
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        duration_ms=state.duration_ms,
        progress=_progress(state, max(len(nodes), len(state.steps))),
        eta_ms=_eta_ms(state, nodes, graph, now),
        parent=None,
        rerun_of=None,
        steps=[_step(node_id, nodes.get(node_id), state) for node_id in {**nodes, **state.steps}],
        logs=logs,
    )


def _step(node_id: str, node: Node | None, state: ExecutionState) -> StepDocument:
    step = state.steps.get(node_id) or StepState(
        node_id, status="cancelled" if state.is_terminal else "pending"
    )
    return StepDocument(
        node_id=node_id,
        node_type=node.type if node else step.node_type,
        name=(node.name if node else "") or node_id,
        status=step.status,
        attempt=step.attempt,
        started_at=step.started_at,
        completed_at=step.completed_at,
        duration_ms=step.duration_ms,
        output=step.output,
        error=step.error,
        waiting_for=_waiting_for(step),
    )


def _waiting_for(step: StepState) -> dict[str, str] | None:
    if step.status not in {"waiting", "retrying"} or step.due is None:
        return None
    return {"until": format_timestamp(step.due)}


def _output(state: ExecutionState, definition: Definition | None, graph: Graph | None) -> Any:
    if state.status != "completed" or not state.output_omitted:
        return state.output
    if definition is None or graph is None:
        return None
    # Too large to be repeated in the last event: the outputs of the leaves, put together again.
    return {node: state.steps[node].output for node in graph.leaves if node in state.steps}


def _progress(state: ExecutionState, total: int) -> float:
    if state.status == "completed":
        return 100.0
    done = 0.0
    for step in state.steps.values():
        if step.status in {"success", "error", "skipped"}:
            done += 1
        elif step.status == "running":
            done += min(max(step.percent or 0.0, 0.0), 100.0) / 100
    return round(100 * done / total, 1) if total else 0.0


def _eta_ms(
    state: ExecutionState, nodes: dict[str, Node], graph: Graph | None, now: float
) -> int | None:
    if graph is None:
        return None
    node_types = {node_id: node.type for node_id, node in nodes.items()}
    seconds = remaining_seconds(graph, node_types, state, now)
    return None if seconds is None else round(seconds * 1000)
