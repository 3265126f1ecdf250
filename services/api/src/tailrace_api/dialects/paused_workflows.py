"""Stream the steps of a tenant that wait for a signal, and how their waits end.

Names and fields are those that existing front ends of this stream expect. They list one entry per
waiting step; ``pausedAt`` distinguishes the steps of one execution.

``workflow.cancelled`` names the step if only its wait has ended. Without a step, all waits of the
execution have ended.

Some front ends forget all entries of an execution when one of its waits ends. So those that go on
are repeated after it, each with an id of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import FIRST_INDEX, Dialect, LoggedEvent, Slots
from tailrace_api.dialects.snapshot import Snapshot, SnapshotQuery, WaitingStep
from tailrace_shared.execution.events import (
    TERMINAL_TYPES,
    Cancelled,
    Failed,
    Finishing,
    OpenWait,
    StepError,
    StepWait,
)

MAX_LISTED: Final = 1000
"""Entries in one snapshot; if more steps wait, it also has their total number."""
MAX_LISTED_BYTES: Final = 4 * 1024 * 1024
"""The limit of its entries' bytes."""

# Twice as many are cached, so the list stays full after many of its steps have been resumed.
_MAX_CACHED: Final = 2 * MAX_LISTED
_MAX_CACHED_BYTES: Final = 2 * MAX_LISTED_BYTES

# Memory of a cached entry beside its bytes, and of a wait without a cached entry.
_ENTRY_BYTES: Final = 400
_WAIT_BYTES: Final = 200

_AWAIT: Final = "await"

# Bytes in every commit that is shown or ends waits, as the log's encoder writes them.
_MARKS: Final = (
    b'"wait":"signal"',
    b'"node_type":"await"',
    b'"waited":true',
    *(b'"type":"%b"' % ended.encode() for ended in sorted(TERMINAL_TYPES)),
)

# The end of a wait, and the waits that go on.
_SLOTS: Final = 16
_NOTHING: Final[Slots] = (None,) * _SLOTS


class PausedWorkflow(msgspec.Struct, frozen=True, rename="camel"):
    """A step that waits for a signal, as this dialect shows it.

    Attributes:
        execution_id: its execution.
        workflow_id: the execution's workflow.
        workflow_name: the workflow's display name.
        paused_at: the step.
        paused_time: when its wait began (RFC 3339).
        waiting_for: the procedures that can send the signal; none if it waits for a decision.
        timeout_at: when the wait times out (RFC 3339); None for never.
        variables: the execution's input, if it is not too large to repeat, and small outputs of
            its steps by node id.
        reason: why it waits, from the workflow's definition.
    """

    execution_id: str
    workflow_id: str
    workflow_name: str
    paused_at: str
    paused_time: str
    waiting_for: Sequence[str]
    timeout_at: str | None
    variables: Any
    reason: str


class _Done(msgspec.Struct):
    """The fields of a step's completion that this dialect shows."""

    node_id: str
    node_type: str
    kept_from: str | None = None
    still_waiting: list[OpenWait] = []
    variables: list[dict[str, Any]] = []


_decode_wait = msgspec.json.Decoder(StepWait).decode
_decode_done = msgspec.json.Decoder(_Done).decode
_decode_error = msgspec.json.Decoder(StepError).decode
_decode_failed = msgspec.json.Decoder(Failed).decode
_decode_finishing = msgspec.json.Decoder(Finishing).decode
_decode_cancelled = msgspec.json.Decoder(Cancelled).decode
_encode = msgspec.json.Encoder().encode


def paused_workflow(context: Context, wait: WaitingStep) -> PausedWorkflow:
    return PausedWorkflow(
        context.execution_id,
        context.workflow_id,
        context.workflow_name,
        wait.node_id,
        wait.since,
        wait.triggers,
        wait.until,
        _variables(context.input, wait.variables),
        wait.reason,
    )


def _variables(run_input: Any, outputs: Mapping[str, Any]) -> Any:
    if run_input is None:
        return dict(outputs)
    if not outputs:
        return run_input
    # Existing front ends read fields of the input, so an output does not replace one.
    return {**outputs, **(run_input if isinstance(run_input, dict) else {"input": run_input})}


def _waits(context: Context, event: LoggedEvent) -> Iterable[Block]:
    wait = _decode_wait(event.data)
    if wait.wait != "signal":
        return ()
    begun = WaitingStep(
        wait.node_id, event.timestamp, wait.reason, wait.triggers, wait.until, wait.variables
    )
    return (_paused(context, begun),)


def _paused(context: Context, wait: WaitingStep) -> Block:
    return Block("workflow.paused", _encode(paused_workflow(context, wait)))


def _resumed(context: Context, event: LoggedEvent) -> Iterable[Block]:
    done = _decode_done(event.data)
    # A step that a rerun kept has waited in another execution.
    if done.node_type != _AWAIT or done.kept_from is not None:
        return ()
    resumed = _block("workflow.resumed", context, resumedFrom=done.node_id)
    return (resumed, *_repeated(context, done.still_waiting, done.variables))


def _failed(context: Context, event: LoggedEvent) -> Iterable[Block]:
    error = _decode_error(event.data)
    if not error.waited:
        return ()
    cancelled = _block("workflow.cancelled", context, reason=error.error, pausedAt=error.node_id)
    return (cancelled, *_repeated(context, error.still_waiting, error.variables))


def _repeated(
    context: Context, waits: Iterable[OpenWait], variables: Sequence[dict[str, Any]]
) -> Iterable[Block]:
    for wait in waits:
        outputs = variables[wait.variables] if 0 <= wait.variables < len(variables) else {}
        begun = WaitingStep(
            wait.node_id, wait.since, wait.reason, wait.triggers, wait.until, outputs
        )
        yield _paused(context, begun)


def _execution_failed(context: Context, event: LoggedEvent) -> Iterable[Block]:
    failed = _decode_failed(event.data)
    return _ended(context, failed.waiting, failed.error_message)


def _execution_cancelled(context: Context, event: LoggedEvent) -> Iterable[Block]:
    cancelled = _decode_cancelled(event.data)
    return _ended(context, cancelled.waiting, cancelled.reason)


def _finishing(context: Context, event: LoggedEvent) -> Iterable[Block]:
    finishing = _decode_finishing(event.data)
    return _ended(context, finishing.waiting, finishing.error_message)


def _ended(context: Context, waiting: list[str], reason: str) -> Iterable[Block]:
    if not waiting:
        return ()
    return (_block("workflow.cancelled", context, reason=reason or "cancelled"),)


_RENDERERS: Final[Mapping[str, Callable[[Context, LoggedEvent], Iterable[Block]]]] = {
    "step:waiting": _waits,
    "step:completed": _resumed,
    "step:failed": _failed,
    "execution:failed": _execution_failed,
    "execution:cancelled": _execution_cancelled,
    "execution:finishing": _finishing,
}


def _block(name: str, context: Context, **fields: Any) -> Block:
    execution, workflow = context.execution_id, context.workflow_id
    return Block(name, _encode({"executionId": execution, "workflowId": workflow, **fields}))


class _Shown(msgspec.Struct, rename="camel"):
    """The fields of a block that identify its waits."""

    execution_id: str
    paused_at: str | None = None
    paused_time: str = ""
    resumed_from: str | None = None


_decode_shown = msgspec.json.Decoder(_Shown).decode


class _PausedList:
    """The waiting steps at one position of the log: a fold over the blocks of this dialect."""

    def __init__(self, snapshot: Snapshot) -> None:
        # By execution, the waiting steps: all of them, because the total is shown.
        self._waiting: dict[str, set[str]] = {}
        self._total = 0
        # The newest waits, by execution and step: their time and their entry.
        self._cached: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._cached_bytes = 0
        waits = (
            (wait.since, execution.context, wait)
            for execution in snapshot.executions
            for wait in execution.waits
        )
        oldest_first = sorted(waits, key=itemgetter(0))
        for _since, context, wait in oldest_first:
            self._waiting.setdefault(context.execution_id, set()).add(wait.node_id)
        self._total = len(oldest_first)
        self._cache_newest(oldest_first)

    def _cache_newest(self, oldest_first: list[tuple[str, Context, WaitingStep]]) -> None:
        """Cache as many entries as are kept; the others need not be encoded."""
        newest_first: list[tuple[tuple[str, str], tuple[str, bytes]]] = []
        for since, context, wait in reversed(oldest_first[-_MAX_CACHED:]):
            entry = _encode(paused_workflow(context, wait))
            if self._cached_bytes + len(entry) > _MAX_CACHED_BYTES:
                break
            self._cached_bytes += len(entry)
            newest_first.append(((context.execution_id, wait.node_id), (since, entry)))
        self._cached = dict(reversed(newest_first))

    @property
    def size(self) -> int:
        listed = min(self._cached_bytes, MAX_LISTED_BYTES)
        return (
            self._cached_bytes
            + listed
            + _ENTRY_BYTES * len(self._cached)
            + _WAIT_BYTES * self._total
        )

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        slots = PAUSED_WORKFLOWS.show(context, event, stored)
        for block in slots:
            if block is not None:
                self._apply(block)
        if slots[0] is None and event.type in TERMINAL_TYPES:
            # Workers of earlier versions do not list the steps that were waiting.
            self._remove_all(context.execution_id)
        return slots

    def opening(self, milliseconds: int) -> Sequence[Block]:
        del milliseconds
        return (self._snapshot(),)

    def _apply(self, block: Block) -> None:
        shown = _decode_shown(block.data)
        execution = shown.execution_id
        if block.name == "workflow.paused" and shown.paused_at is not None:
            self._add(execution, shown.paused_at, shown.paused_time, block.data)
        elif node := shown.resumed_from or shown.paused_at:
            self._remove(execution, node)
        else:
            self._remove_all(execution)

    def _add(self, execution: str, node: str, since: str, entry: bytes) -> None:
        self._remove(execution, node)
        self._waiting.setdefault(execution, set()).add(node)
        self._total += 1
        self._cached[execution, node] = since, entry
        self._cached_bytes += len(entry)
        while len(self._cached) > _MAX_CACHED or self._cached_bytes > _MAX_CACHED_BYTES:
            self._evict(next(iter(self._cached)))

    def _remove_all(self, execution: str) -> None:
        for each in tuple(self._waiting.get(execution, ())):
            self._remove(execution, each)

    def _remove(self, execution: str, node: str) -> None:
        nodes = self._waiting.get(execution)
        if nodes is None or node not in nodes:
            return
        nodes.remove(node)
        self._total -= 1
        if not nodes:
            del self._waiting[execution]
        self._evict((execution, node))

    def _evict(self, key: tuple[str, str]) -> None:
        _since, entry = self._cached.pop(key, ("", b""))
        self._cached_bytes -= len(entry)

    def _snapshot(self) -> Block:
        # By the workers' clocks, then by name, so that all replicas list them in the same order.
        newest = sorted(self._cached.items(), key=lambda item: (item[1][0], item[0]), reverse=True)
        entries: list[bytes] = []
        room = MAX_LISTED_BYTES
        for _key, (_since, entry) in newest[:MAX_LISTED]:
            room -= len(entry)
            if room < 0:
                break
            entries.append(entry)
        more = b',"total":%d' % self._total if self._total > len(entries) else b""
        return Block(
            "paused.initial", b'{"pausedWorkflows":[' + b",".join(entries) + b"]" + more + b"}"
        )


class _PausedWorkflows(Dialect):
    __slots__ = ()

    name = "paused_workflows"
    first_index = FIRST_INDEX
    topic_slot = 16

    @property
    def slots(self) -> int:
        return _SLOTS

    @property
    def earlier_slots(self) -> int:
        return 1

    needs = "context"

    @property
    def snapshot_query(self) -> SnapshotQuery:
        return SnapshotQuery(waits=True)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        renderer = _RENDERERS.get(event.type)
        if renderer is None:
            return _NOTHING
        shown = tuple(renderer(context, event))[:_SLOTS]
        return (*shown, *_NOTHING[len(shown) :])

    def upgraded(self, index: int) -> int:
        return index if index >= FIRST_INDEX else FIRST_INDEX + index * _SLOTS

    def begin(self, snapshot: Snapshot) -> _PausedList:
        return _PausedList(snapshot)

    def concerns(self, context: Context, payload: bytes) -> bool:
        del context
        return any(mark in payload for mark in _MARKS)


PAUSED_WORKFLOWS: Final = _PausedWorkflows()
