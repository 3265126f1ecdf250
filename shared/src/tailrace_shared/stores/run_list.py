"""Pages of runs, newest first.

The start index gives the order, and the run index the rest of each row. A run that no worker has
begun has no summary yet; its newest commit shows that it exists. A run without either was never
completely started, or has been deleted.

Before topology version 2 the start index is not complete: version 0.2 writes none of it, and its
runs are added when the topology is applied. Until then all keys of the run index and of the live
index are read and sorted.

Runs in a status that a run leaves again (queued, running, paused) are found among the executions
that have not ended. Runs that failed or were cancelled have rows of their own, in the order of
their ends, and so have runs with a tag, in the order of their starts. The children of a run are
named in its log. Runs of a time are found by the time at which their rows were written. All other
filters are applied to rows that are read one after the other, up to a limit a page.
"""

import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, cast, get_args

import msgspec

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    HistoryExpiredError,
    InvalidIdError,
    NewerLogError,
)
from tailrace_shared.execution.events import ExecutionQueued, StepWaiting
from tailrace_shared.execution.state import IllegalEventError, fold
from tailrace_shared.execution.summary import RunSummary, summary_of
from tailrace_shared.execution.transitions import TERMINAL_STATUSES, ExecutionStatus
from tailrace_shared.ids import check_id, creation_time, is_valid_id
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import (
    BACKFILLED,
    ENDED,
    STARTED,
    RowPosition,
    Start,
    StartIndex,
    StartRow,
    kind_of_tag,
    position_of,
)
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.run_query import ALL_RUNS, RunQuery

_READ_AT_ONCE: Final = 200
# How many rows are read at once while few of them are wanted.
_SCAN_AT_ONCE: Final = 1_000
_MAX_READ: Final = 2_000
# Rows of runs that are not wanted, whose summaries are not read.
_MAX_SCANNED: Final = 20_000
# The most by which the clock of an API replica may differ from that of NATS.
_MAX_CLOCK_SKEW_S: Final = 60.0
# How long the version of the topology is cached.
_CHECK_AGAIN_S: Final = 10.0
# Cursors that are execution ids.
_BY_EXECUTION: Final = "l"
_STATUSES: Final = frozenset(get_args(ExecutionStatus))
# In every commit that starts a child run, as the log's encoder writes it.
_CHILD: Final = b'"child_execution_id":'


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
        query: RunQuery = ALL_RUNS,
        *,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return a page of runs, newest first.

        Args:
            tenant: the tenant.
            query: which runs.
            limit: the maximum number of runs.
            cursor: the cursor of the preceding page.

        Runs that failed or were cancelled come page by page in the order of their ends. A page of
        completed runs, or of a text, may be short, and still have a cursor, if few of very many
        runs are wanted.

        Raises:
            InvalidIdError: the tenant, an id in the query or the cursor is invalid.
            UnavailableError: NATS did not answer.
        """
        check_id(tenant, "tenant")
        rows = await self._rows(tenant, query.checked(), limit, cursor)
        page = await self._collect(tenant, rows, query, limit)
        if query.status in ENDED:
            page.runs.sort(key=lambda run: run.execution_id, reverse=True)
        return page

    async def _rows(
        self, tenant: str, query: RunQuery, limit: int, cursor: str | None
    ) -> AsyncIterator[list[_Row]]:
        few = await self._few(tenant, query)
        if few is not None:
            return self._paged(few, cursor)
        if query.tag is not None:
            kinds: Sequence[str] = (kind_of_tag(query.tag),)
        elif query.status in ENDED:
            kinds = (query.status,)
        else:
            kinds = (STARTED, BACKFILLED)
        return self._indexed(tenant, query, limit, cursor, kinds)

    async def _few(self, tenant: str, query: RunQuery) -> set[tuple[str, str]] | None:
        """Return the runs (workflow, execution) that may match; None to find them by their rows."""
        if query.text is not None and creation_time(query.text) is not None:
            return await self._named(tenant, query.text)
        if query.parent is not None:
            return await self._children(tenant, query.parent)
        if query.status in _STATUSES and query.status not in TERMINAL_STATUSES:
            entries = await self._live.of_tenant(tenant, query.workflow)
            return {(each.workflow, each.execution) for each in entries}
        if not await self._has_all_starts():
            return await self._all(tenant, query.workflow)
        return None

    async def _indexed(
        self,
        tenant: str,
        query: RunQuery,
        limit: int,
        cursor: str | None,
        kinds: Sequence[str],
    ) -> AsyncIterator[list[_Row]]:
        until = (query.created_before or math.inf) + _MAX_CLOCK_SKEW_S
        after: RowPosition | None = None
        if cursor is not None:
            after = position_of(cursor, kinds)
        elif until < time.time() and kinds[0] not in ENDED:
            after = await self._starts.position_at(tenant, query.workflow, kinds[0], until)
        # One more than the page, which tells whether there is another.
        at_once = limit + 1 if query.is_of_rows(kinds) else _SCAN_AT_ONCE
        async for rows in self._starts.newest_first(tenant, query.workflow, at_once, after, kinds):
            yield [_Row(row.workflow, row.start, str(row.position)) for row in rows]
            # No row is written before the run is created.
            since = rows[-1].written_at + _MAX_CLOCK_SKEW_S
            if query.created_after is not None and since < query.created_after:
                return

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

    async def _named(self, tenant: str, execution: str) -> set[tuple[str, str]]:
        newest = await self._log.last_commit(tenant, execution)
        if newest is None:
            return set()
        workflow = newest.workflow or (await self._log.load(tenant, execution)).state.workflow_id
        return {(workflow, execution)}

    async def _children(self, tenant: str, parent: str) -> set[tuple[str, str]]:
        """Return the child runs (workflow, execution) of a run, which its log names."""
        found: set[tuple[str, str]] = set()
        try:
            async for commit in self._log.read(tenant, parent):
                if _CHILD in commit.payload:
                    waits = (each.data for each in commit.events() if isinstance(each, StepWaiting))
                    found |= {
                        (wait.child_workflow_id, wait.child_execution_id)
                        for wait in waits
                        if wait.child_workflow_id and wait.child_execution_id
                    }
        except HistoryExpiredError:
            return set()
        return found

    async def _all(self, tenant: str, workflow: str | None) -> set[tuple[str, str]]:
        live = await self._live.of_tenant(tenant, workflow)
        runs = {(entry.workflow, entry.execution) for entry in live}
        return runs | set(await self._runs.keys(tenant, workflow))

    @staticmethod
    async def _paged(
        runs: Iterable[tuple[str, str]], cursor: str | None
    ) -> AsyncIterator[list[_Row]]:
        for page in _pages_of(runs, _execution_in(cursor)):
            yield page

    async def _collect(
        self,
        tenant: str,
        pages: AsyncIterator[list[_Row]],
        query: RunQuery,
        limit: int,
    ) -> RunPage:
        found: list[RunSummary] = []
        cursors: list[str] = []
        seen: set[str] = set()
        read = scanned = 0
        async for rows in pages:
            wanted = [row for row in rows if query.may_include(row.workflow, row.start)]
            runs = await self._complete(tenant, wanted)
            for row in wanted:
                run = runs.get(row.start.execution_id)
                if run is None or run.execution_id in seen or not query.includes(run):
                    continue
                seen.add(run.execution_id)
                found.append(run)
                cursors.append(row.cursor)
            if len(found) > limit:
                return RunPage(found[:limit], cursors[limit - 1])
            read, scanned = read + len(wanted), scanned + len(rows)
            if read >= _MAX_READ or scanned >= _MAX_SCANNED:
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
