"""Invariants between executions: child runs, reruns, and concurrency limits.

All logs are in one stream, so the sequences of commits give their order, independent of clocks.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from harness.models.log_reading import Record
from harness.models.run_rules import is_timeout
from tailrace_shared.execution.events import (
    TERMINAL,
    CommandRequested,
    Event,
    ExecutionCancelled,
    ExecutionQueued,
    ExecutionStarted,
    StepCompleted,
    StepFailed,
    StepRetrying,
    StepWaiting,
)
from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.graph import graph_of

Records = Mapping[str, Record]


def family_violations(records: Records) -> list[str]:
    """Return the violations between executions, given all of them by id, as sentences."""
    return [
        *_children(records),
        *(problem for record in records.values() for problem in _rerun(record, records)),
        *_concurrency(records),
    ]


def _sequenced(record: Record) -> Iterator[tuple[int, Event]]:
    for commit in record.commits:
        for event in commit.events():
            yield commit.sequence, event


def _queued(record: Record) -> ExecutionQueued:
    first = record.commits[0].events()[0]
    assert isinstance(first, ExecutionQueued), first
    return first


def _end(record: Record) -> tuple[int, Event] | None:
    ends = [(at, event) for at, event in _sequenced(record) if isinstance(event, TERMINAL)]
    return ends[0] if ends else None


def _folded(record: Record) -> ExecutionState:
    state = ExecutionState()
    for event in record.events:
        state.apply(event)
    return state


# Children


def _children(records: Records) -> Iterator[str]:
    claimed: dict[str, tuple[str, str]] = {}
    for execution, record in records.items():
        for at, event in _sequenced(record):
            if isinstance(event, StepWaiting) and event.data.child_execution_id is not None:
                child = event.data.child_execution_id
                if child in claimed:
                    yield f"{child} is a child run of two steps"
                claimed[child] = (execution, event.data.node_id)
                yield from _linked(execution, at, event, records)
        yield from _answered(record, records)
    for execution, record in records.items():
        parent = _queued(record).data.parent
        if parent is None:
            continue
        if claimed.get(execution) != (parent.execution_id, parent.node_id):
            yield f"{execution} names a parent that does not wait for it: {parent}"


def _linked(parent: str, waits_at: int, event: StepWaiting, records: Records) -> Iterator[str]:
    child = records.get(event.data.child_execution_id or "")
    end = _end(records[parent])
    is_stopped = _stopped_after(records[parent], waits_at)
    if child is None:
        # Stopped between the record and the creation.
        if end is not None and not is_stopped:
            yield f"{parent} waited for {event.data.child_execution_id}, which does not exist"
        return
    queued = _queued(child).data
    if child.commits[0].sequence < waits_at:
        yield f"{queued.execution_id} was created before its parent recorded it"
    if queued.depth != _queued(records[parent]).data.depth + 1:
        yield f"{queued.execution_id} is at depth {queued.depth}"
    if end is None:
        return
    child_end = _end(child)
    has_cancel = any(
        isinstance(e, CommandRequested) and e.data.command == "cancel" for e in child.events
    )
    if is_stopped:
        if child_end is None and not has_cancel:
            yield f"{parent} was stopped, but its child {queued.execution_id} was not"
    elif child_end is None or child_end[0] > end[0]:
        yield f"{parent} ended before its child {queued.execution_id}"


def _stopped_after(record: Record, waits_at: int) -> bool:
    """Return whether a cancellation or a time limit ended a part in which a step waited.

    Such an end cancels the child runs, and does not wait for them.
    """
    return any(
        at > waits_at and (isinstance(event, ExecutionCancelled) or is_timeout(event))
        for at, event in _sequenced(record)
    )


def _answered(record: Record, records: Records) -> Iterator[str]:
    """Check that a step ends with the result of its child run."""
    state = ExecutionState()
    for at, event in _sequenced(record):
        if isinstance(event, StepCompleted | StepFailed | StepRetrying):
            waiting = state.step(event.data.node_id).waiting
            child = waiting.child_execution_id if waiting is not None else None
            if child is not None:
                yield from _answers(event, at, child, records)
        state.apply(event)


def _answers(
    event: StepCompleted | StepFailed | StepRetrying, at: int, child: str, records: Records
) -> Iterator[str]:
    node_id = event.data.node_id
    if child not in records:
        return
    end = _end(records[child])
    if end is None or end[0] > at:
        if isinstance(event, StepCompleted):
            yield f"{node_id} succeeds before its child {child} has ended"
        return
    state = _folded(records[child])
    succeeded = isinstance(event, StepCompleted)
    if succeeded != (state.status == "completed"):
        yield f"{node_id} has {event.data.status}, its child {child} is {state.status}"
    elif isinstance(event, StepCompleted) and not _same_output(event, state):
        yield f"{node_id} has another output than its child {child}"


def _same_output(event: StepCompleted, child: ExecutionState) -> bool:
    if event.data.output_ref is not None or child.output_omitted:
        return True
    return bool(event.data.output == child.output)


# Reruns


def _rerun(record: Record, records: Records) -> Iterator[str]:
    queued = _queued(record).data
    if queued.rerun_of is None or queued.rerun_of not in records:
        return
    original_record = records[queued.rerun_of]
    end = _end(original_record)
    if end is None or end[0] > record.commits[0].sequence:
        yield f"{queued.execution_id} runs {queued.rerun_of} again, which has not ended"
        return
    original = _folded(original_record)
    is_same = (queued.version, queued.input) == (original.version, original.input)
    if is_same == queued.revised:
        yield f"{queued.execution_id} is wrong about the version or input of {queued.rerun_of}"
    yield from _kept(record, original)


def _kept(record: Record, original: ExecutionState) -> Iterator[str]:
    queued = _queued(record).data
    kept: set[str] = set()
    has_started = False
    for event in record.events:
        has_started = has_started or isinstance(event, ExecutionStarted)
        if isinstance(event, StepCompleted) and event.data.kept_from is not None:
            kept.add(event.data.node_id)
            if has_started:
                yield f"{event.data.node_id} is kept after the start"
            if not _is_same(event, original):
                yield f"{queued.execution_id} keeps another output of {event.data.node_id}"
    expected = _to_keep(record, original)
    # Which nodes another definition changes is a matter of tests of its own.
    if has_started and (not kept <= expected if queued.revised else kept != expected):
        yield f"{queued.execution_id} keeps {sorted(kept)}, not {sorted(expected)}"


def _is_same(event: StepCompleted, original: ExecutionState) -> bool:
    source = original.step(event.data.node_id)
    if event.data.output_omitted or source.output_omitted:
        return True
    if event.data.output_ref is not None and source.output_ref is not None:
        # The rerun has its own copy, which may outlive the original.
        return event.data.output_ref.bytes == source.output_ref.bytes
    return bool(event.data.output == source.output)


def _to_keep(record: Record, original: ExecutionState) -> set[str]:
    queued, nodes = _queued(record).data, record.definition.nodes
    if queued.from_node is None and not queued.failed:
        return set()
    first, index = (None, None) if queued.from_node is None else split_item_id(queued.from_node)
    wanted = {node for node in nodes if node == first}
    if queued.failed:
        wanted |= {node for node in nodes if _lacks_success(node, original)}
    leads = graph_of(record.definition).ancestry()
    may_be_kept = [
        node for node in nodes if not any(leads(earlier, node) for earlier in wanted - {node})
    ]
    kept = {n for n in may_be_kept if n not in wanted and original.step(n).status == "success"}
    for node in wanted.intersection(may_be_kept):
        is_whole = node == first and index is None
        if not is_whole:
            kept |= {item for item in _items(node, original) if _is_success(item, original)}
    return kept - {queued.from_node}


def _lacks_success(node: str, original: ExecutionState) -> bool:
    failed_items = (item for item in _items(node, original) if item in original.steps)
    return original.step(node).status not in {"success", "skipped"} or any(
        original.step(item).status == "error" for item in failed_items
    )


def _items(node: str, original: ExecutionState) -> list[str]:
    return [item_id(node, index) for index in range(len(original.step(node).items or ()))]


def _is_success(step_id: str, original: ExecutionState) -> bool:
    return step_id in original.steps and original.step(step_id).status == "success"


# Concurrency


def _concurrency(records: Records) -> Iterator[str]:
    """Check that no concurrency group exceeds the limit of its workflow."""
    groups: dict[tuple[str, bytes], list[Record]] = defaultdict(list)
    for record in records.values():
        if record.definition.concurrency is not None:
            groups[record.definition.id, _group(record)].append(record)
    for (workflow, _key), members in groups.items():
        concurrency = members[0].definition.concurrency
        assert concurrency is not None
        most = _most_at_once(members)
        if most > concurrency.limit:
            yield f"{most} executions of {workflow} ran at once; the limit is {concurrency.limit}"


def _group(record: Record) -> bytes:
    concurrency = record.definition.concurrency
    if concurrency is None or concurrency.key is None:
        return b""
    value: Any = compile_expression(concurrency.key).evaluate({"input": _queued(record).data.input})
    return msgspec.json.encode(value)


def _most_at_once(members: Iterable[Record]) -> int:
    changes: list[tuple[int, int]] = []
    for record in members:
        running = False
        for at, event in _sequenced(record):
            if isinstance(event, ExecutionStarted):
                running = True
                changes.append((at, 1))
            elif isinstance(event, TERMINAL) and running:
                changes.append((at, -1))
    most = now = 0
    for _at, change in sorted(changes):
        now += change
        most = max(most, now)
    return most
