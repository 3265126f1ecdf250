"""Pipeline status: how the workflows that a client names stand, whenever that changes.

The names and fields are those that existing front ends of this stream listen for. A pipeline is a
workflow, and stands as its runs do:

1. ``active`` if a run of it is queued or running;
2. else ``paused`` if a run of it is paused;
3. else ``completed`` or ``failed``, as its run that ended last did;
4. else ``idle``: that run was cancelled, or there never was one.

So what is told of an event depends on all runs that are live. A stream begins with how all of its
pipelines stand, and an error for each id that names none by then; a run of one that has come to
exist since counts. Updates of pipelines that a client sees are written at once, the others a little
later.
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

_AFTER: Final[Mapping[str, str]] = {
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
# What a pipeline and a live run take of memory.
_PIPELINE: Final = 1500
_RUN: Final = 300

_encode = msgspec.json.Encoder().encode


class PipelineUpdate(msgspec.Struct, frozen=True, rename="camel"):
    """How a pipeline stands."""

    pipeline_id: str
    status: PipelineStatus


class BatchUpdate(msgspec.Struct, frozen=True, tag_field="type", tag="batch_update"):
    """How all pipelines stand that a client has named.

    Attributes:
        timestamp: when, in milliseconds since the epoch.
        updates: each of them that there is.
    """

    timestamp: int
    updates: Sequence[PipelineUpdate]


class PipelineError(msgspec.Struct, frozen=True, rename="camel", tag_field="type", tag="error"):
    """An id that names no pipeline.

    Attributes:
        timestamp: when, in milliseconds since the epoch.
    """

    timestamp: int
    pipeline_id: str
    message: str


class RunCounts:
    """How some pipelines stand at one place of a tenant's log.

    Args:
        pipelines: which.
        snapshot: that place.
    """

    def __init__(self, pipelines: Iterable[str], snapshot: Snapshot) -> None:
        self._pipelines = tuple(sorted(pipelines))
        self._live: dict[str, EarlierStatus] = {}
        # Of each pipeline how many live runs have each status.
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in self._pipelines}
        self._last: dict[str, str | None] = {
            name: ended.status for name, ended in snapshot.ended.items() if name in self._counts
        }
        # Those whose last result nobody can tell, at an earlier place.
        self._untold: set[str] = set()
        for standing in snapshot.standings:
            context = standing.context
            if context.workflow_id in self._counts:
                self._enter(
                    context.execution_id, EarlierStatus(context.workflow_id, standing.status)
                )
        self._missing = {
            name
            for name in self._pipelines
            if name not in snapshot.workflows and not self._counts[name]
        }

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes, those of an opening included."""
        return _PIPELINE * len(self._pipelines) + _RUN * len(self._live)

    @property
    def missing(self) -> frozenset[str]:
        """Those that there are not."""
        return frozenset(self._missing)

    def found(self, workflows: Collection[str]) -> None:
        """Learn that there are some of those that were missing."""
        self._missing.difference_update(workflows)

    def runs(self, pipeline: str) -> Mapping[str, int]:
        """Return how many live runs of a pipeline have each status."""
        return +self._counts[pipeline]

    def status(self, pipeline: str) -> PipelineStatus | None:
        """Return how a pipeline stands; None if nobody can tell."""
        counts = self._counts[pipeline]
        if counts["queued"] or counts["running"]:
            return "active"
        if counts["paused"]:
            return "paused"
        return None if pipeline in self._untold else _RESULTS[self._last.get(pipeline)]

    def updates(self) -> list[PipelineUpdate]:
        """Return how all of them stand that there are."""
        return [
            PipelineUpdate(name, status)
            for name in self._pipelines
            if name not in self._missing and (status := self.status(name))
        ]

    def errors(self, milliseconds: int) -> list[PipelineError]:
        """Return what there is to say of those that there are not."""
        return [
            PipelineError(milliseconds, name, f"there is no pipeline {name!r}")
            for name in sorted(self._missing)
        ]

    def opening(self, milliseconds: int) -> Sequence[Block]:
        """Return how all of them stand."""
        batch = BatchUpdate(milliseconds, self.updates())
        return [
            Block("batch_update", _encode(batch)),
            *(Block("error", _encode(error)) for error in self.errors(milliseconds)),
        ]

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        """Take an event into account; return the update if it changes how its pipeline stands."""
        del stored
        pipeline, status = context.workflow_id, _AFTER.get(event.type)
        if status is None or pipeline not in self._counts:
            return _NO_CHANGE
        # First what may fail: what is not told is not taken, or nobody would ever be told.
        at = parse_timestamp(event.timestamp)
        before = None if pipeline in self._missing else self.status(pipeline)
        self._missing.discard(pipeline)
        self._leave(context.execution_id)
        if status in TERMINAL_STATUSES:
            self._last[pipeline] = status
            self._untold.discard(pipeline)
        else:
            self._enter(context.execution_id, EarlierStatus(pipeline, status))
        after = self.status(pipeline)
        if after is None or after == before:
            return _NO_CHANGE
        return (_update(at, pipeline, after, before),)

    def copy(self) -> "RunCounts":
        """Return a tally that goes its own way from here."""
        copied = RunCounts((), Snapshot(0, (), {}, frozenset()))
        copied._pipelines = self._pipelines
        copied._live = dict(self._live)
        copied._counts = {name: Counter(counts) for name, counts in self._counts.items()}
        copied._last = dict(self._last)
        copied._untold, copied._missing = set(self._untold), set(self._missing)
        return copied

    def rewind(self, before: Mapping[str, EarlierStatus]) -> None:
        """Go back to where some executions stood otherwise."""
        for execution, past in before.items():
            if past.workflow_id not in self._counts:
                continue
            if execution not in self._live:
                # It has ended since, and which one ended last before it, the log of others knows.
                self._untold.add(past.workflow_id)
            self._leave(execution)
            if past.status is not None:
                self._enter(execution, past)

    def _enter(self, execution: str, past: EarlierStatus) -> None:
        self._live[execution] = past
        self._counts[past.workflow_id][str(past.status)] += 1

    def _leave(self, execution: str) -> None:
        if past := self._live.pop(execution, None):
            self._counts[past.workflow_id][str(past.status)] -= 1


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
        pipelines: which.
        visible: which of them the client sees now; None: all.
    """

    pipelines: frozenset[str]
    visible: frozenset[str] | None = None

    name = "pipelines"
    needs = "workflow"
    # What makes a status of an event is its type, and that no version changes.
    is_verbatim = True
    heartbeat_factor = 2.0
    is_regular = True
    is_cumulative = True

    @property
    def wants(self) -> SnapshotQuery:
        """What a state begins with."""
        return SnapshotQuery(workflows=self.pipelines)

    def begin(self, snapshot: Snapshot) -> RunCounts:
        """Return the tally of a snapshot."""
        return RunCounts(self.pipelines, snapshot)

    def heartbeat(self, milliseconds: int) -> bytes:
        """Return the block by which clients see that the stream lives."""
        beat = {"type": "heartbeat", "timestamp": milliseconds}
        return frame.event(_encode(beat), name="heartbeat")

    def concerns(self, context: Context, payload: bytes) -> bool:
        """Tell whether a commit may change how a pipeline stands."""
        return context.workflow_id in self.pipelines and _MARK in payload

    def is_urgent(self, context: Context) -> bool:
        """Tell whether a client sees an execution's pipeline."""
        return self.visible is None or context.workflow_id in self.visible
