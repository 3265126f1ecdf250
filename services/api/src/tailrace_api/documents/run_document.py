"""Render the state of an execution for people and polling clients. Pure.

It lists the nodes of the definition with their recorded state, and the items of a map after their
map. Steps without events are pending, or cancelled if the execution has ended.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.estimation import Estimator
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import Parent, StepWait
from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.progress import progress_percent
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.execution.transitions import ExecutionStatus, StepStatus
from tailrace_shared.position import StreamPosition
from tailrace_shared.redact.masking import mask_event, mask_value
from tailrace_shared.workflow.definition import Definition, Group, Node, OnTimeout
from tailrace_shared.workflow.expressions.budget import Budget
from tailrace_shared.workflow.expressions.template import compile_template
from tailrace_shared.workflow.graph import graph_of

_MAX_PENDING_ITEMS: Final = 1000
"""The maximum number of items without events that are shown for one map."""


class WaitingFor(msgspec.Struct, omit_defaults=True):
    """The wait of a step.

    Attributes:
        kind: A ``time``, a ``signal``, the end of a ``child`` run, an ``actor``, or the next
            attempt (``retry``).
        reason: The reason given in the definition.
        until: When the wait ends or times out.
        on_timeout: What happens when a wait for a signal times out.
        triggers: The procedures that can send the signal.
        match: The CEL expression that a trigger's payload must satisfy.
        form: The JSON Schema of the requested data.
        decided: Whether the signal has arrived and is about to be applied.
        child_execution_id: The id of the child run.
        child_workflow_id: The workflow of the child run.
    """

    kind: Literal["time", "signal", "child", "actor", "retry"]
    reason: str = ""
    until: str | None = None
    on_timeout: OnTimeout | None = None
    triggers: list[str] = []
    match: str | None = None
    form: Any = None
    decided: bool = False
    child_execution_id: str | None = None
    child_workflow_id: str | None = None


class OutputElsewhere(msgspec.Struct):
    """A link to an output that is too large for the document.

    Attributes:
        bytes: The size as JSON.
        href: The path of the output.
    """

    bytes: int
    href: str


class StepDocument(msgspec.Struct):
    """One step of a run.

    Attributes:
        items: The number of items, once a map has evaluated them.
        error_detail: The traceback of the error, or the response that a server sent with it.
        group: The group that the step belongs to, if it runs after the main part.
        kept_from: The execution whose output a rerun reuses.
        output_ref: The link to an output that is not part of this document.
    """

    node_id: str
    node_type: str
    name: str
    status: StepStatus
    attempt: int
    started_at: str | None
    completed_at: str | None
    duration_ms: int | None
    output: Any
    error: str | None
    waiting_for: WaitingFor | None
    items: int | msgspec.UnsetType = msgspec.UNSET
    kept_from: str | msgspec.UnsetType = msgspec.UNSET
    output_ref: OutputElsewhere | msgspec.UnsetType = msgspec.UNSET
    error_detail: str | msgspec.UnsetType = msgspec.UNSET
    group: Group | msgspec.UnsetType = msgspec.UNSET


class LogEntry(msgspec.Struct):
    """An event of the log, with the same id as on streams."""

    id: str
    type: str
    data: msgspec.Raw
    timestamp: str


class RunDocument(msgspec.Struct, omit_defaults=True):
    """A run.

    Attributes:
        tags: Its tags, those of its definition included.
        held: True while a requested pause lasts; otherwise absent.
        from_node: The node or item that a rerun starts from; otherwise absent.
        failed_only: True for a rerun of the steps that had not succeeded; otherwise absent.
        scheduled_at: The time of the firing that started the run; absent without a schedule.
        schedule: The schedule that started the run; otherwise absent.
        logs: The events of the log; present on request.
    """

    execution_id: str
    workflow_id: str
    version: int
    status: ExecutionStatus
    input: Any
    output: Any
    error: str | None
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    progress: float
    eta_ms: int | None
    parent: Parent | None
    rerun_of: str | None
    tags: list[str]
    steps: list[StepDocument]
    held: bool | msgspec.UnsetType = msgspec.UNSET
    from_node: str | msgspec.UnsetType = msgspec.UNSET
    failed_only: bool | msgspec.UnsetType = msgspec.UNSET
    scheduled_at: str | msgspec.UnsetType = msgspec.UNSET
    schedule: str | msgspec.UnsetType = msgspec.UNSET
    logs: list[LogEntry] | msgspec.UnsetType = msgspec.UNSET


class _Event(msgspec.Struct):
    type: str
    data: msgspec.Raw
    timestamp: str


_decode_event = msgspec.json.Decoder(_Event).decode


def log_entries(epoch: str, sequence: int, payload: bytes) -> Iterable[LogEntry]:
    """Yield the events of a commit as log entries."""
    for index, stored in enumerate(split_commit(payload)):
        event = _decode_event(mask_event(stored))
        event_id = str(StreamPosition(epoch, sequence, index))
        yield LogEntry(event_id, event.type, event.data, event.timestamp)


def run_document(
    state: ExecutionState,
    definition: Definition | None,
    now: float,
    logs: list[LogEntry] | msgspec.UnsetType = msgspec.UNSET,
    estimator: Estimator | None = None,
) -> RunDocument:
    """Return the document of a run.

    Args:
        state: The folded log. Outputs that have not been fetched are replaced by links.
        definition: The version of the run; None if it has been evicted.
        now: The time in seconds since the epoch.
        logs: The log entries to include.
        estimator: The estimator for this version; None to estimate from this run alone.
    """
    nodes, groups = _nodes_of(definition), _groups_of(definition)
    return RunDocument(
        execution_id=state.execution_id,
        workflow_id=state.workflow_id,
        version=state.version,
        status=state.status,
        input=mask_value(state.input, state.sensitive),
        output=mask_value(_output(state, definition), state.output_sensitive),
        error=state.error,
        created_at=state.created_at,
        started_at=state.started_at,
        finished_at=state.finished_at,
        duration_ms=state.duration_ms,
        progress=progress_percent(state, len(nodes) - len(groups)),
        eta_ms=_eta_ms(state, definition, now, estimator),
        parent=state.parent,
        rerun_of=state.rerun_of,
        tags=state.tags,
        steps=[_step(step_id, nodes, groups, state) for step_id in _step_ids(state, nodes)],
        held=True if state.is_held and not state.is_terminal else msgspec.UNSET,
        from_node=_or_unset(state.from_node),
        failed_only=True if state.reruns_failed else msgspec.UNSET,
        scheduled_at=_or_unset(state.scheduled_at),
        schedule=_or_unset(state.schedule),
        logs=logs,
    )


def step_document(
    step_id: str, definition: Definition | None, state: ExecutionState
) -> StepDocument:
    """Return the document of a step of a run."""
    return _step(step_id, _nodes_of(definition), _groups_of(definition), state)


def _nodes_of(definition: Definition | None) -> Mapping[str, Node]:
    return definition.all_nodes if definition else {}


def _groups_of(definition: Definition | None) -> dict[str, Group]:
    groups = definition.groups if definition else {}
    return {node_id: group for group, members in groups.items() for node_id in members}


def wanted_outputs(state: ExecutionState, definition: Definition | None) -> list[str]:
    """Return the steps with referenced outputs, those needed for the run's output first.

    The caller fetches them in this order up to its size limit.
    """
    referenced = [step.node_id for step in state.steps.values() if step.output_ref is not None]
    if definition is None or not state.output_omitted:
        return referenced
    named = _named_by_output(definition)
    return sorted(referenced, key=lambda step_id: split_item_id(step_id)[0] not in named)


def output_bytes(step: StepState, state: ExecutionState) -> int:
    """Return the referenced bytes of a step's output, its items' outputs included."""
    items = (state.steps.get(item_id(step.node_id, i)) for i in range(len(step.items or ())))
    found = [step, *(item for item in items if item is not None)]
    return sum(each.output_ref.bytes for each in found if each.output_ref is not None)


def _named_by_output(definition: Definition) -> set[str]:
    if definition.output is None:
        return set(graph_of(definition).leaves)
    expressions = compile_template(definition.output).expressions
    found = [expression.nodes for _path, expression in expressions]
    return {node for nodes in found for node in (definition.all_nodes if nodes is None else nodes)}


def _step_ids(state: ExecutionState, nodes: Mapping[str, Node]) -> Iterator[str]:
    unlisted = (step for step in state.steps if split_item_id(step)[1] is None)
    for node_id in dict.fromkeys([*nodes, *unlisted]):
        yield node_id
        step = state.steps.get(node_id)
        for index in range(len(step.items or ()) if step else 0):
            item = item_id(node_id, index)
            if index < _MAX_PENDING_ITEMS or item in state.steps:
                yield item


def _or_unset(value: str | None) -> str | msgspec.UnsetType:
    return msgspec.UNSET if value is None else value


def _step(
    step_id: str,
    nodes: Mapping[str, Node],
    groups: Mapping[str, Group],
    state: ExecutionState,
) -> StepDocument:
    group = groups.get(split_item_id(step_id)[0])
    step = state.steps.get(step_id) or StepState(step_id, status=_unbegun(group, state))
    node_type, name = _described(step_id, nodes, step)
    return StepDocument(
        node_id=step_id,
        node_type=node_type,
        name=name,
        status=step.status,
        attempt=step.attempt,
        started_at=step.started_at,
        completed_at=step.completed_at,
        duration_ms=step.duration_ms,
        output=None if step.output is msgspec.UNSET else mask_value(step.output, step.sensitive),
        error=step.error,
        waiting_for=_waiting_for(step),
        items=msgspec.UNSET if step.items is None else len(step.items),
        kept_from=msgspec.UNSET if step.kept_from is None else step.kept_from,
        output_ref=_elsewhere(step, state),
        error_detail=step.error_detail or msgspec.UNSET,
        group=msgspec.UNSET if group is None else group,
    )


def _unbegun(group: Group | None, state: ExecutionState) -> StepStatus:
    """Return the status of a step without events."""
    if group == "on_failure" and (state.is_terminal or _is_after_failures(state)):
        return "skipped"
    is_over = state.is_terminal or (group is None and state.finishing is not None)
    return "cancelled" if is_over else "pending"


def _is_after_failures(state: ExecutionState) -> bool:
    return state.finishing is not None and state.finishing.group == "finally"


def _described(step_id: str, nodes: Mapping[str, Node], step: StepState) -> tuple[str, str]:
    node_id, index = split_item_id(step_id)
    node = nodes.get(node_id)
    if node is None:
        return step.node_type, step_id
    if index is None:
        return node.type, node.name or step_id
    work = node.parameters.get("do", {})
    return work.get("type", step.node_type), item_id(node.name, index) if node.name else step_id


def _elsewhere(step: StepState, state: ExecutionState) -> OutputElsewhere | msgspec.UnsetType:
    if step.output is not msgspec.UNSET or step.output_ref is None:
        return msgspec.UNSET
    href = f"/api/v1/executions/{state.execution_id}/steps/{step.node_id}/output"
    return OutputElsewhere(step.output_ref.bytes, href)


def _waiting_for(step: StepState) -> WaitingFor | None:
    if step.status == "retrying":
        return WaitingFor("retry", until=_time(step.due))
    if step.status != "waiting" or step.waiting is None:
        return None
    return _wait(step, step.waiting)


def _wait(step: StepState, waiting: StepWait) -> WaitingFor:
    return WaitingFor(
        kind=waiting.wait,
        reason=waiting.reason,
        until=_time(step.due),
        on_timeout=waiting.on_timeout if waiting.wait == "signal" and step.due else None,
        triggers=waiting.triggers,
        match=waiting.match,
        form=waiting.form,
        decided=step.resolution is not None,
        child_execution_id=waiting.child_execution_id,
        child_workflow_id=waiting.child_workflow_id,
    )


def _time(due: float | None) -> str | None:
    return None if due is None else format_timestamp(due)


def _output(state: ExecutionState, definition: Definition | None) -> Any:
    if state.status != "completed" or not state.output_omitted:
        return state.output
    if definition is None:
        return None
    # The output was too large for the last event, so it is rebuilt from the outputs of steps.
    if definition.output is not None:
        try:
            # A worker has rendered it within a budget.
            return render(compile_template(definition.output), state, budget=Budget(math.inf))
        except ExpressionError:
            return None  # too large for a document; the steps link to their outputs
    leaves = graph_of(definition).leaves
    outputs = {node: state.steps[node].output for node in leaves if node in state.steps}
    return {node: out for node, out in outputs.items() if out is not msgspec.UNSET}


def _eta_ms(
    state: ExecutionState, definition: Definition | None, now: float, estimator: Estimator | None
) -> int | None:
    if definition is None:
        return None
    if state.is_terminal:
        return 0
    # Prefer the caller's cached estimator: for 10,000 nodes its graph takes half of the time.
    estimator = estimator or Estimator(graph_of(definition), definition.nodes)
    seconds = estimator.remaining_seconds(state, now)
    return None if seconds is None else round(seconds * 1000)
