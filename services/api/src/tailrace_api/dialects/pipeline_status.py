"""Stream the status of workflows that a client names, and every change of it.

Names and fields are those that existing front ends of this stream expect. A pipeline is a workflow.
Its status depends on its runs:

1. ``active`` if a run is queued or running;
2. else ``paused`` if a run is paused;
3. else ``completed`` or ``failed``, like the run that ended last;
4. else ``idle``: that run was cancelled, or there never was one.

So what is shown of an event depends on all live runs. A stream begins with the status of all of its
pipelines, and an error for each id that names no workflow. The runs of a workflow that is stored
later count from then on. Updates of pipelines that are visible to the user are written at once, the
others a little later.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.dialects.snapshot import EarlierStatus, Snapshot, SnapshotQuery
from tailrace_api.sse import frame
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import TERMINAL_STATUSES

PipelineStatus = Literal["idle", "active", "paused", "failed", "completed"]

_STATUS_AFTER: Final[Mapping[str, str]] = {
    "execution:queued": "queued",
    "execution:started": "running",
    "execution:resumed": "running",
    "execution:paused": "paused",
    "execution:completed": "completed",
    "execution:failed": "failed",
    "execution:cancelled": "cancelled",
}
_RESULTS: Final[Mapping[str | None, PipelineStatus]] = {
    "completed": "completed",
    "failed": "failed",
    "cancelled": "idle",
    None: "idle",
}
# Every event that changes the status of an execution has this, as the log's encoder writes it.
_MARK: Final = b'"type":"execution:'
_NO_CHANGE: Final[Slots] = (None,)
# Memory of a pipeline and of a live run.
_PIPELINE_BYTES: Final = 1500
_RUN_BYTES: Final = 300

_encode = msgspec.json.Encoder().encode


class PipelineUpdate(msgspec.Struct, frozen=True, rename="camel"):
    """The status of a pipeline."""

    pipeline_id: str
    status: PipelineStatus


class BatchUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="batch_update"):
    """The status of all pipelines that a client has named.

    Attributes:
        timestamp: milliseconds since the Unix epoch.
        updates: the pipelines that exist.
    """

    timestamp: int
    updates: Sequence[PipelineUpdate]


class PipelineError(msgspec.Struct, frozen=True, rename="camel", tag_field="type", tag="error"):
    """An id that names no pipeline.

    Attributes:
        timestamp: milliseconds since the Unix epoch.
    """

    timestamp: int
    pipeline_id: str
    message: str


class RunCounts:
    """The status of some pipelines at one position of a tenant's log."""

    def __init__(
        self, pipelines: Iterable[str], snapshot: Snapshot, stray: Iterable[str] = ()
    ) -> None:
        self._pipelines = tuple(sorted(pipelines))
        self._stray = tuple(sorted(stray))
        self._live: dict[str, EarlierStatus] = {}
        # By pipeline, the number of live runs by status.
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in self._pipelines}
        self._last: dict[str, str | None] = {
            name: ended.status for name, ended in snapshot.ended.items() if name in self._counts
        }
        # After a rewind: pipelines whose last result is unknown.
        self._unknown: set[str] = set()
        for execution in snapshot.executions:
            context = execution.context
            if context.workflow_id in self._counts:
                status = EarlierStatus(context.workflow_id, execution.status)
                self._add(context.execution_id, status)
        self._missing = {
            name
            for name in self._pipelines
            if name not in snapshot.workflows and not self._counts[name]
        }

    @property
    def size(self) -> int:
        return _PIPELINE_BYTES * len(self._pipelines) + _RUN_BYTES * len(self._live)

    @property
    def missing(self) -> frozenset[str]:
        return frozenset(self._missing)

    def add_workflows(self, workflows: Collection[str]) -> None:
        self._missing.difference_update(workflows)

    def runs(self, pipeline: str) -> Mapping[str, int]:
        """Return the number of a pipeline's live runs by status."""
        return +self._counts[pipeline]

    def status(self, pipeline: str) -> PipelineStatus | None:
        """Return the status of a pipeline; None if it is unknown."""
        counts = self._counts[pipeline]
        if counts["queued"] or counts["running"]:
            return "active"
        if counts["paused"]:
            return "paused"
        return None if pipeline in self._unknown else _RESULTS[self._last.get(pipeline)]

    def updates(self) -> list[PipelineUpdate]:
        return [
            PipelineUpdate(name, status)
            for name in self._pipelines
            if name not in self._missing and (status := self.status(name))
        ]

    def errors(self, milliseconds: int) -> list[PipelineError]:
        return [
            *(
                PipelineError(milliseconds, name, f"there is no pipeline {name!r}")
                for name in sorted(self._missing)
            ),
            *(
                PipelineError(milliseconds, name, f"visible: {name!r} is not in pipelineIds")
                for name in self._stray
            ),
        ]

    def opening(self, milliseconds: int) -> Sequence[Block]:
        batch = BatchUpdate(milliseconds, self.updates())
        return [
            Block("batch_update", _encode(batch)),
            *(Block("error", _encode(error)) for error in self.errors(milliseconds)),
        ]

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Apply an event; return an update if it changes the status of its pipeline."""
        del stored
        pipeline, status = context.workflow_id, _STATUS_AFTER.get(event.type)
        if status is None or pipeline not in self._counts:
            return _NO_CHANGE
        # Parse first: an event that fails to parse must change nothing, or its change would never
        # be shown.
        at = parse_timestamp(event.timestamp)
        before = None if pipeline in self._missing else self.status(pipeline)
        self._missing.discard(pipeline)
        self._remove(context.execution_id)
        if status in TERMINAL_STATUSES:
            self._last[pipeline] = status
            self._unknown.discard(pipeline)
        else:
            self._add(context.execution_id, EarlierStatus(pipeline, status))
        after = self.status(pipeline)
        if after is None or after == before:
            return _NO_CHANGE
        return (_update(at, pipeline, after, before),)

    def copy(self) -> "RunCounts":
        copied = RunCounts((), Snapshot(0, (), {}, frozenset()))
        copied._pipelines = self._pipelines
        copied._live = dict(self._live)
        copied._counts = {name: Counter(counts) for name, counts in self._counts.items()}
        copied._last = dict(self._last)
        copied._unknown, copied._missing = set(self._unknown), set(self._missing)
        return copied

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        """Return to an earlier position, where some executions had another status."""
        for execution, earlier in before.items():
            if earlier.workflow_id not in self._counts:
                continue
            if execution not in self._live:
                # The execution has ended since. Which one had ended last before it, only the logs
                # of other executions tell.
                self._unknown.add(earlier.workflow_id)
            self._remove(execution)
            if earlier.status is not None:
                self._add(execution, earlier)

    def _add(self, execution: str, earlier: EarlierStatus) -> None:
        self._live[execution] = earlier
        self._counts[earlier.workflow_id][str(earlier.status)] += 1

    def _remove(self, execution: str) -> None:
        if earlier := self._live.pop(execution, None):
            self._counts[earlier.workflow_id][str(earlier.status)] -= 1


def _update(
    at: float, pipeline: str, status: PipelineStatus, before: PipelineStatus | None
) -> Block:
    update: dict[str, Any] = {
        "type": "status_update",
        "timestamp": round(at * 1000),
        "pipelineId": pipeline,
        "status": status,
    }
    if before is not None:
        update["previousStatus"] = before
    return Block("status_update", _encode(update))


@dataclass(frozen=True, slots=True)
class Pipelines(Dialect):
    """The dialect of a stream of some pipelines.

    Attributes:
        visible: those that are visible to the user now; None for all.
        stray: ids that were said to be visible, but are no pipelines of the stream.
    """

    pipelines: frozenset[str]
    visible: frozenset[str] | None = None
    stray: frozenset[str] = frozenset()

    name = "pipelines"
    topic_slot = 4
    needs = "workflow"
    # The status depends only on the types of events, which no version changes.
    is_verbatim = True
    heartbeat_factor = 2.0
    is_regular = True
    heartbeat_has_id = True
    is_cumulative = True

    @property
    def snapshot_query(self) -> SnapshotQuery:
        return SnapshotQuery(workflows=self.pipelines)

    @property
    def workflows(self) -> frozenset[str]:
        return self.pipelines

    def begin(self, snapshot: Snapshot) -> RunCounts:
        return RunCounts(self.pipelines, snapshot, self.stray)

    def heartbeat(self, milliseconds: int, event_id: str) -> bytes:
        """Return a block that shows clients that the stream is alive, and where they are."""
        beat = {"type": "heartbeat", "timestamp": milliseconds}
        return frame.event(_encode(beat), name="heartbeat", event_id=event_id)

    def concerns(self, context: Context, payload: bytes) -> bool:
        return context.workflow_id in self.pipelines and _MARK in payload

    def is_urgent(self, context: Context) -> bool:
        """Return whether an execution's pipeline is visible to the user."""
        return self.visible is None or context.workflow_id in self.visible
