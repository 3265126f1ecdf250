"""Stream the newest runs of a tenant, and what changes of any run.

A stream begins with ``runs.initial``, the summaries of the newest runs. Each ``run`` after it is a
*change* of a run: what identifies it, and those fields of its summary that an event has changed. A
client adds a run that it does not know, and updates the fields of one that it knows.

A change follows from the event, the headers of its commit and the first event of the run. So the
stream can be resumed at any replica without what came before.

Runs may be limited to a workflow or a tag. A run has up to sixteen tags, and a multiplexed stream
may have a topic for each. So the topic of a tag has the slot of its place among the run's tags.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.dialects.snapshot import ALL_RUNS, RunsOf, Snapshot, SnapshotQuery
from tailrace_shared.execution.commit_status import CommitStatus
from tailrace_shared.execution.events import Cancelled, Completed, Failed, Started, StepProgress
from tailrace_shared.execution.state import described_failure
from tailrace_shared.execution.summary import RunSummary
from tailrace_shared.workflow.definition import MAX_TAGS

MAX_LISTED: Final = 200
"""The number of runs with which a stream begins."""

_RUN_BYTES: Final = 1200
_WAIT_ENDS: Final = frozenset({"step:completed", "step:failed"})
# Bytes in every commit that is shown, as the log's encoder writes them.
_MARKS: Final = (
    b'"type":"execution:',
    b'"type":"step:progress"',
    b'"wait":"signal"',
    b'"node_type":"await"',
    b'"waited":true',
)
# The topics of all runs, of a workflow's and of a tag's.
_SLOT, _WORKFLOW_SLOT, _TAG_SLOT = 5, 6, 32


class _StepWait(msgspec.Struct):
    wait: str = "time"


class _StepEnd(msgspec.Struct):
    node_type: str
    waited: bool = False
    kept_from: str | None = None


class RunsInitial(msgspec.Struct, frozen=True):
    """The newest runs, newest first."""

    runs: Sequence[RunSummary]


class RunChange(msgspec.Struct, frozen=True, omit_defaults=True):
    """The id and origin of a run, and the fields of its summary that an event has changed.

    Attributes:
        progress: the share of its steps that have ended, in percent, as a step reported it.
        eta_ms: the estimated remaining time, in milliseconds; null if unknown.
        waits: the number of its steps that wait for a signal.
    """

    execution_id: str
    workflow_id: str
    version: int
    created_at: str | None
    parent: str | None
    rerun_of: str | None
    tags: Sequence[str]
    status: str | msgspec.UnsetType = msgspec.UNSET
    started_at: str | msgspec.UnsetType = msgspec.UNSET
    finished_at: str | msgspec.UnsetType = msgspec.UNSET
    duration_ms: int | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType | None = msgspec.UNSET
    progress: float | msgspec.UnsetType = msgspec.UNSET
    eta_ms: int | msgspec.UnsetType | None = msgspec.UNSET
    waits: int | msgspec.UnsetType = msgspec.UNSET


_decode_started = msgspec.json.Decoder(Started).decode
_decode_completed = msgspec.json.Decoder(Completed).decode
_decode_failed = msgspec.json.Decoder(Failed).decode
_decode_cancelled = msgspec.json.Decoder(Cancelled).decode
_decode_progress = msgspec.json.Decoder(StepProgress).decode
_decode_wait = msgspec.json.Decoder(_StepWait).decode
_decode_end = msgspec.json.Decoder(_StepEnd).decode
_decode_change = msgspec.json.Decoder(RunChange).decode
_encode = msgspec.json.Encoder().encode

_Fields = dict[str, Any]


def _queued(event: LoggedEvent) -> _Fields:
    del event
    return {"status": "queued"}


def _started(event: LoggedEvent) -> _Fields:
    started = _decode_started(event.data)
    return {"status": "running", "started_at": event.timestamp, "eta_ms": started.eta_ms}


def _paused(event: LoggedEvent) -> _Fields:
    del event
    return {"status": "paused"}


def _resumed(event: LoggedEvent) -> _Fields:
    del event
    return {"status": "running"}


def _completed(event: LoggedEvent) -> _Fields:
    completed = _decode_completed(event.data)
    return {**_ended(event, "completed", completed.execution_time_ms), "progress": 100.0}


def _failed(event: LoggedEvent) -> _Fields:
    failed = _decode_failed(event.data)
    ended = _ended(event, "failed", failed.execution_time_ms)
    return {**ended, "error": described_failure(failed)}


def _cancelled(event: LoggedEvent) -> _Fields:
    cancelled = _decode_cancelled(event.data)
    ended = _ended(event, "cancelled", cancelled.execution_time_ms)
    return {**ended, "error": cancelled.reason or None}


def _ended(event: LoggedEvent, status: str, duration_ms: int) -> _Fields:
    ended = {"status": status, "finished_at": event.timestamp, "duration_ms": duration_ms}
    return {**ended, "eta_ms": 0, "waits": 0}


def _progress(event: LoggedEvent) -> _Fields:
    report = _decode_progress(event.data)
    if report.progress is None:
        return {}
    return {"progress": report.progress, "eta_ms": report.eta_ms}


_CHANGES: Final[Mapping[str, Callable[[LoggedEvent], _Fields]]] = {
    "execution:queued": _queued,
    "execution:started": _started,
    "execution:paused": _paused,
    "execution:resumed": _resumed,
    "execution:completed": _completed,
    "execution:failed": _failed,
    "execution:cancelled": _cancelled,
    "step:progress": _progress,
}


def _changes_waits(event: LoggedEvent) -> bool:
    if event.type == "step:waiting":
        return _decode_wait(event.data).wait == "signal"
    if event.type not in _WAIT_ENDS:
        return False
    end = _decode_end(event.data)
    return end.kept_from is None and (end.waited or end.node_type == "await")


def run_change(context: Context, event: LoggedEvent) -> Block | None:
    """Return the block that an event shows of its run; None if it changes nothing."""
    changes = _CHANGES.get(event.type)
    fields = changes(event) if changes else {}
    if "status" in fields or _changes_waits(event):
        status = CommitStatus.parse(event.commit_status)
        if status is not None:
            fields = {"waits": status.waits, **fields}
    if not fields:
        return None
    change = RunChange(
        context.execution_id,
        context.workflow_id,
        context.version,
        context.created_at,
        context.parent,
        context.rerun_of,
        context.tags,
        **fields,
    )
    return Block("run", _encode(change))


class _RunList:
    """The newest runs at one position of a tenant's log."""

    def __init__(self, dialect: "Runs", runs: Sequence[RunSummary]) -> None:
        self._dialect = dialect
        self._runs = {run.execution_id: run for run in runs}

    @property
    def size(self) -> int:
        return _RUN_BYTES * len(self._runs)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        slots = self._dialect.show(context, event, stored)
        for block in slots:
            if block is not None:
                self._apply(_decode_change(block.data))
        return slots

    def opening(self, milliseconds: int) -> Sequence[Block]:
        del milliseconds
        newest = sorted(self._runs.values(), key=lambda run: run.execution_id, reverse=True)
        return (Block("runs.initial", _encode(RunsInitial(newest))),)

    def _apply(self, change: RunChange) -> None:
        run = self._runs.get(change.execution_id)
        fields = {
            name: value
            for name in RunSummary.__struct_fields__
            if (value := getattr(change, name)) is not msgspec.UNSET
        }
        if run is not None:
            self._runs[change.execution_id] = msgspec.structs.replace(run, **fields)
        elif change.status == "queued":
            unknown = dict.fromkeys(("started_at", "finished_at", "duration_ms", "error"))
            self._runs[change.execution_id] = RunSummary(**{**unknown, **fields})
            if len(self._runs) > MAX_LISTED:
                del self._runs[min(self._runs)]


@dataclass(frozen=True, slots=True)
class Runs(Dialect):
    """The dialect of some runs.

    Attributes:
        which: the runs.
    """

    which: RunsOf = ALL_RUNS

    name = "runs"
    needs = "context"

    @property
    def topic_slot(self) -> int:  # type: ignore[override]
        if self.which.tag is not None:
            return _TAG_SLOT
        return _SLOT if self.which.workflow is None else _WORKFLOW_SLOT

    @property
    def slots(self) -> int:
        return 1 if self.which.tag is None else MAX_TAGS

    @property
    def earlier_slots(self) -> int:
        return 0

    @property
    def workflows(self) -> frozenset[str] | None:
        return None if self.which.workflow is None else frozenset({self.which.workflow})

    @property
    def snapshot_query(self) -> SnapshotQuery:
        return SnapshotQuery(workflows=frozenset(), runs=frozenset({self.which}))

    def begin(self, snapshot: Snapshot) -> _RunList:
        return _RunList(self, snapshot.runs.get(self.which, ()))

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        nothing: Slots = (None,) * self.slots
        if not self.which.includes(context):
            return nothing
        block = run_change(context, event)
        if self.which.tag is None or block is None:
            return (block, *nothing[1:])
        place = context.tags.index(self.which.tag)
        return (*nothing[:place], block, *nothing[place + 1 :])

    def concerns(self, context: Context, payload: bytes) -> bool:
        # The workflow may be unknown here.
        if context.workflow_id and self.which.workflow not in {None, context.workflow_id}:
            return False
        return any(mark in payload for mark in _MARKS)
