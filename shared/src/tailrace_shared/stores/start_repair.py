"""Add the start rows of executions that version 0.2 starts after the topology was applied.

Such an execution has no row, so lists lack it. A worker of this version that begins one adds the
row: the first commit shows that none was written. Executions that workers of version 0.2 drive are
found by their summaries, which lack a field.
"""

import collections
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from tailrace_shared.execution.summary import RunSummary
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.run_index import RunIndex, start_of
from tailrace_shared.stores.indexes.start_index import ENDED, StartIndex

_KEY: Final = "starts.repaired"
_BATCH: Final = 500
# The most by which the clock of an API replica may be ahead of that of NATS.
_MAX_CLOCK_SKEW_S: Final = 60.0


class _Position(msgspec.Struct):
    revision: int


class StartRepair:
    """Adds missing start rows.

    Args:
        starts: the rows.
        runs: the run summaries.
        log: tells the version of the topology.
        state: the bucket that records how far the last sweep came.
    """

    def __init__(
        self, starts: StartIndex, runs: RunIndex, log: ExecutionLog, state: Bucket
    ) -> None:
        self._starts = starts
        self._runs = runs
        self._log = log
        self._state = state

    async def sweep(self) -> int:
        """Check the summaries since the last sweep; return the number of rows that were added.

        The caller sees to it that one process does so at a time.

        Raises:
            UnavailableError: NATS did not answer; the next sweep continues.
            JetStreamError: JetStream refused a request.
        """
        after = await self._complete_until()
        if after is None:
            return 0
        entry = await self._state.get_newest(_KEY)
        done = 0 if entry is None else msgspec.json.decode(entry.value, type=_Position).revision
        added, position = 0, done
        candidates: list[tuple[str, RunSummary]] = []
        async for run in self._runs.written_since(done + 1):
            position = run.revision
            if not run.is_of_older_version or _written(run.summary) < after:
                continue
            candidates.append((run.tenant, run.summary))
            if len(candidates) == _BATCH:
                added += await self._add_missing(candidates)
                candidates = []
        added += await self._add_missing(candidates)
        if position != done:
            await self._state.put(_KEY, msgspec.json.encode(_Position(position)))
        return added

    async def add(self, tenant: str, run: RunSummary) -> None:
        """Add the row of an execution that version 0.2 created, unless it has one.

        Raises:
            UnavailableError: NATS did not answer; the row may or may not be added.
        """
        after = await self._complete_until()
        # While the topology is applied, the row of a new execution may be missed.
        if run.status == "queued" or (after is not None and _created(run) >= after):
            await self._add_missing([(tenant, run)])

    async def _complete_until(self) -> float | None:
        """Return until when the rows are complete, or None if the topology is not applied yet."""
        if await self._log.topology_version() == 1:
            return None
        # Applying the topology has added the rows of all executions before.
        return await self._starts.backfilled_at() - _MAX_CLOCK_SKEW_S

    async def _add_missing(self, runs: Iterable[tuple[str, RunSummary]]) -> int:
        by_workflow: dict[tuple[str, str], list[RunSummary]] = collections.defaultdict(list)
        for tenant, run in runs:
            by_workflow[tenant, run.workflow_id].append(run)
        added = 0
        for (tenant, workflow), some in by_workflow.items():
            added += await self._add_missing_of(tenant, workflow, some)
        return added

    async def _add_missing_of(self, tenant: str, workflow: str, runs: Sequence[RunSummary]) -> int:
        since = min(map(_created, runs)) - _MAX_CLOCK_SKEW_S
        present = await self._starts.executions_since(tenant, workflow, since)
        missing = {run.execution_id: run for run in runs if run.execution_id not in present}
        for _, run in sorted(missing.items()):
            await self._starts.add(tenant, workflow, start_of(run))
        for run in runs:
            # A second row does no harm.
            if run.status in ENDED:
                await self._starts.add_end(tenant, workflow, start_of(run), run.status)
        return len(missing)


def _created(run: RunSummary) -> float:
    return 0.0 if run.created_at is None else parse_timestamp(run.created_at)


def _written(run: RunSummary) -> float:
    written_at = run.finished_at or run.started_at or run.created_at
    return 0.0 if written_at is None else parse_timestamp(written_at)
