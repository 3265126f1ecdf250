"""Pages of runs, newest first.

The start index gives the order, and the run index the rest of each row. A run that no worker has
begun has no summary yet; its newest commit shows that it exists. A run without either was never
completely started, or has been deleted.

Before topology version 2 the start index is not complete: version 0.2 writes none of it, and its
runs are added when the topology is applied. Until then all keys of the run index and of the live
index are read and sorted.

Runs in a status that a run leaves again (queued, running, paused) are found among the executions
that have not ended. Runs that failed or were cancelled have rows of their own, in the order of
their ends. Completed runs are found by reading the rows one after the other, up to a limit a page.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, cast, get_args

import msgspec

from tailrace_shared.errors import ExecutionNotFoundError, InvalidIdError, NewerLogError
from tailrace_shared.execution.events import ExecutionQueued
from tailrace_shared.execution.state import IllegalEventError, fold
from tailrace_shared.execution.transitions import TERMINAL_STATUSES, ExecutionStatus
from tailrace_shared.ids import check_id, is_valid_id
from tailrace_shared.stores.execution_log import Commit, ExecutionLog
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.run_index import RunIndex, RunSummary, summary_of
from tailrace_shared.stores.indexes.start_index import (
    BACKFILLED,
    ENDED,
    STARTED,
    Start,
    StartIndex,
    StartRow,
    position_of,
)

_READ_AT_ONCE: Final = 200
# How many rows are read at once while few of them are wanted.
_SCAN_AT_ONCE: Final = 1_000
_MAX_READ: Final = 2_000
# How long the version of the topology is cached.
_CHECK_AGAIN_S: Final = 10.0
# Cursors that are execution ids.
_BY_EXECUTION: Final = "l"
_STATUSES: Final = frozenset(get_args(ExecutionStatus))


class RunPage(NamedTuple):
    """A page of runs, newest first, and the cursor of the next page, or None."""

    runs: list[RunSummary]
    cursor: str | None


class _Row(NamedTuple):
    workflow: str
    start: Start
    cursor: str


class RunList:
    """Reads pages of runs.

    Args:
        starts: the order of runs.
        runs: the run summaries.
        live: the executions that have not ended.
        log: the event log.
    """

    def __init__(
        self, starts: StartIndex, runs: RunIndex, live: LiveIndex, log: ExecutionLog
    ) -> None:
        self._starts = starts
        self._runs = runs
        self._live = live
        self._log = log
        self._is_complete = False
        self._check_again_at = 0.0

    async def page(
        self,
        tenant: str,
        *,
        workflow: str | None = None,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs, newest first.

        Args:
            tenant: the tenant.
            workflow: only runs of this workflow.
            status: only runs in this status.
            limit: the maximum number of runs.
            cursor: the cursor of the preceding page.

        Runs that failed or were cancelled come page by page in the order of their ends. A page of
        completed runs may be short, and still have a cursor, if few of very many runs are.

        Raises:
            InvalidIdError: the tenant, the workflow or the cursor is invalid.
            UnavailableError: NATS did not answer.
        """
        check_id(tenant, "tenant")
        if workflow is not None:
            check_id(workflow, "workflow")
        if status in _STATUSES and status not in TERMINAL_STATUSES:
            rows = self._live_rows(tenant, workflow, cursor)
        elif not await self._has_all_starts():
            rows = self._all_rows(tenant, workflow, cursor)
        elif status in ENDED:
            rows = self._indexed(tenant, workflow, limit, cursor, (status,))
        else:
            at_once = limit if status is None else _SCAN_AT_ONCE
            rows = self._indexed(tenant, workflow, at_once, cursor, (STARTED, BACKFILLED))
        page = await self._collect(
            tenant, rows, lambda run: status is None or run.status == status, limit
        )
        if status in ENDED:
            page.runs.sort(key=lambda run: run.execution_id, reverse=True)
        return page

    async def _indexed(
        self,
        tenant: str,
        workflow: str | None,
        limit: int,
        cursor: str | None,
        kinds: Sequence[str],
    ) -> AsyncIterator[list[_Row]]:
        after = None if cursor is None else position_of(cursor, kinds)
        # One more than the page, which tells whether there is another.
        async for rows in self._starts.newest_first(tenant, workflow, limit + 1, after, kinds):
            yield [_Row(row.workflow, row.start, str(row.position)) for row in rows]

    async def existing(self, rows: Sequence[StartRow]) -> set[tuple[str, str]]:
        """Return those executions (tenant, id) of some rows that exist.

        Raises:
            UnavailableError: NATS did not answer.
        """
        found: set[tuple[str, str]] = set()
        for tenant in {row.tenant for row in rows}:
            own = [(row.workflow, row.start.execution_id) for row in rows if row.tenant == tenant]
            runs = {run.execution_id for run in await self._runs.of(tenant, own)}
            rest = [execution for _, execution in own if execution not in runs]
            runs |= set(await self._log.last_commits(tenant, rest, 0)) if rest else set()
            found |= {(tenant, execution) for execution in runs}
        return found

    async def _has_all_starts(self) -> bool:
        if time.monotonic() >= self._check_again_at:
            self._is_complete = await self._log.topology_version() > 1
            self._check_again_at = time.monotonic() + _CHECK_AGAIN_S
        return self._is_complete

    async def _live_rows(
        self, tenant: str, workflow: str | None, cursor: str | None
    ) -> AsyncIterator[list[_Row]]:
        before = _execution_in(cursor)
        entries = await self._live.of_tenant(tenant, workflow)
        for page in _pages_of(((entry.workflow, entry.execution) for entry in entries), before):
            yield page

    async def _all_rows(
        self, tenant: str, workflow: str | None, cursor: str | None
    ) -> AsyncIterator[list[_Row]]:
        before = _execution_in(cursor)
        live = await self._live.of_tenant(tenant, workflow)
        runs = {(entry.workflow, entry.execution) for entry in live}
        runs |= set(await self._runs.keys(tenant, workflow))
        for page in _pages_of(runs, before):
            yield page

    async def _collect(
        self,
        tenant: str,
        pages: AsyncIterator[list[_Row]],
        wanted: Callable[[RunSummary], bool],
        limit: int,
    ) -> RunPage:
        found: list[RunSummary] = []
        cursors: list[str] = []
        seen: set[str] = set()
        read = 0
        async for rows in pages:
            runs = await self._complete(tenant, rows)
            for row in rows:
                run = runs.get(row.start.execution_id)
                if run is None or run.execution_id in seen or not wanted(run):
                    continue
                seen.add(run.execution_id)
                found.append(run)
                cursors.append(row.cursor)
            if len(found) > limit:
                return RunPage(found[:limit], cursors[limit - 1])
            read += len(rows)
            if read >= _MAX_READ:
                return RunPage(found, rows[-1].cursor)
        return RunPage(found, None)

    async def _complete(self, tenant: str, rows: list[_Row]) -> dict[str, RunSummary]:
        """Return the runs of some rows, by execution, as far as they exist."""
        keys = [(row.workflow, row.start.execution_id) for row in rows]
        runs = {run.execution_id: run for run in await self._runs.of(tenant, keys)}
        rest = [row for row in rows if row.start.execution_id not in runs]
        return runs | await self._without_summary(tenant, rest)

    async def _without_summary(self, tenant: str, rows: Iterable[_Row]) -> dict[str, RunSummary]:
        by_execution = {row.start.execution_id: row for row in rows}
        if not by_execution:
            return {}
        commits = await self._log.last_commits(tenant, [*by_execution], 0)
        runs: dict[str, RunSummary] = {}
        for execution, commit in commits.items():
            if run := await self._from_log(tenant, commit, by_execution[execution]):
                runs[execution] = run
        return runs

    async def _from_log(self, tenant: str, newest: Commit, row: _Row) -> RunSummary | None:
        try:
            events = [] if newest.is_newer else newest.events()
            if events and isinstance(events[0], ExecutionQueued):
                return summary_of(fold(events))
            return summary_of((await self._log.load(tenant, newest.execution)).state)
        except ExecutionNotFoundError:
            return None  # deleted meanwhile
        except (NewerLogError, IllegalEventError, msgspec.DecodeError):
            return _from_row(row, newest)


def _from_row(row: _Row, newest: Commit) -> RunSummary:
    status = newest.status
    return RunSummary(
        execution_id=row.start.execution_id,
        workflow_id=row.workflow,
        version=row.start.version,
        status="queued" if status is None else cast("ExecutionStatus", status.status),
        created_at=row.start.created_at,
        started_at=None,
        finished_at=None,
        duration_ms=None,
        error=None,
        parent=row.start.parent,
    )


def _execution_in(cursor: str | None) -> str | None:
    if cursor is None:
        return None
    if cursor.startswith(_BY_EXECUTION) and is_valid_id(cursor[1:]):
        return cursor[1:]
    raise InvalidIdError(
        f"cursor: {cursor[:80]!r} is not a cursor of this list; begin again without one"
    )


def _pages_of(runs: Iterable[tuple[str, str]], before: str | None) -> Iterator[list[_Row]]:
    """Yield the rows of runs (workflow, execution) before an execution, newest first."""
    newest_first = sorted(
        (run for run in runs if before is None or run[1] < before),
        key=lambda run: run[1],
        reverse=True,
    )
    for start in range(0, len(newest_first), _READ_AT_ONCE):
        yield [
            _Row(workflow, Start(execution), f"{_BY_EXECUTION}{execution}")
            for workflow, execution in newest_first[start : start + _READ_AT_ONCE]
        ]
