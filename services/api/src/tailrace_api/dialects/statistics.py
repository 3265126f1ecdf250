"""Stream the statistics of a tenant, and the beginning and the end of each run.

A stream begins with ``stats.initial``, the document that a polling client gets, without its clients
and with the busiest workflows only. Each ``stats.run`` after it is a run that has been created, or
that has ended: enough to go on with throughput, success rates and run latencies. Latencies of steps
are those of the first block.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import Dialect, LoggedEvent, Slots
from tailrace_api.dialects.snapshot import Snapshot, SnapshotQuery
from tailrace_api.dialects.statistics_document import merged, runs_statistics
from tailrace_shared.estimation import RunDelta, RunHistory
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.execution.transitions import TERMINAL_STATUSES, ExecutionStatus

MAX_WORKFLOWS: Final = 50
"""The number of workflows in the first block."""

_STATUS_AFTER: Final[Mapping[str, ExecutionStatus]] = {
    "execution:queued": "queued",
    "execution:completed": "completed",
    "execution:failed": "failed",
    "execution:cancelled": "cancelled",
}
_MARKS: Final = tuple(b'"type":"%b"' % name.encode() for name in _STATUS_AFTER)
_WORKFLOW_BYTES: Final = 8 * 1024
_NOTHING: Final[Slots] = (None,)


class StatsRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that has been created or has ended.

    Attributes:
        timestamp: when, in milliseconds since the epoch.
        duration_ms: how long it took, if it has ended, in milliseconds.
    """

    workflow_id: str
    execution_id: str
    status: ExecutionStatus
    timestamp: int
    duration_ms: int | None = None


class _End(msgspec.Struct):
    execution_time_ms: int | None = None


_decode_end = msgspec.json.Decoder(_End).decode
_decode_run = msgspec.json.Decoder(StatsRun).decode
_encode = msgspec.json.Encoder().encode


class _TenantState:
    """The statistics of a tenant at one position of its log."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._tenant, self._records = "", dict[str, RunHistory]()
        if snapshot.statistics is not None:
            self._tenant = snapshot.statistics.tenant
            # Shared with other topics, and changed here.
            self._records = {
                name: msgspec.structs.replace(record, minutes=dict(record.minutes))
                for name, record in snapshot.statistics.records.items()
            }
        self._active = Counter(each.context.workflow_id for each in snapshot.executions)
        self._total = merged(self._records.values())

    @property
    def size(self) -> int:
        return _WORKFLOW_BYTES * (len(self._records) + len(self._active) + 1)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        slots = STATISTICS.show(context, event, stored)
        for block in slots:
            if block is not None:
                self._apply(_decode_run(block.data), event.timestamp)
        return slots

    def opening(self, milliseconds: int) -> Sequence[Block]:
        now = milliseconds / 1000
        busiest = sorted(self._records.keys() | +self._active, key=self._activity, reverse=True)
        names = sorted(busiest[:MAX_WORKFLOWS])
        document = runs_statistics(
            self._tenant, self._total, self._records, +self._active, names, now
        )
        return (Block("stats.initial", _encode(document)),)

    def _activity(self, workflow: str) -> tuple[int, int, str]:
        record = self._records.get(workflow) or RunHistory()
        newest = max(record.minutes, default=0)
        return self._active[workflow], newest, workflow

    def _apply(self, run: StatsRun, timestamp: str) -> None:
        if run.status not in TERMINAL_STATUSES:
            self._active[run.workflow_id] += 1
            return
        self._active[run.workflow_id] -= 1
        ended = RunDelta()
        ended.record_run(
            ExecutionState(
                status=run.status, finished_at=timestamp, duration_ms=run.duration_ms or 0
            )
        )
        ended.add_to_runs(self._records.setdefault(run.workflow_id, RunHistory()))
        ended.add_to_runs(self._total)


class _Statistics(Dialect):
    __slots__ = ()

    name = "statistics"
    topic_slot = 7
    needs = "workflow"

    @property
    def earlier_slots(self) -> int:
        return 0

    @property
    def snapshot_query(self) -> SnapshotQuery:
        return SnapshotQuery(workflows=frozenset(), statistics=True)

    def begin(self, snapshot: Snapshot) -> _TenantState:
        return _TenantState(snapshot)

    def show(self, context: Context, event: LoggedEvent, stored: msgspec.Raw) -> Slots:
        del stored
        status = _STATUS_AFTER.get(event.type)
        if status is None:
            return _NOTHING
        run = StatsRun(
            context.workflow_id,
            context.execution_id,
            status,
            round(parse_timestamp(event.timestamp) * 1000),
            _decode_end(event.data).execution_time_ms,
        )
        return (Block("stats.run", _encode(run)),)

    def concerns(self, context: Context, payload: bytes) -> bool:
        del context
        return any(mark in payload for mark in _MARKS)


STATISTICS: Final = _Statistics()
