"""Read the exact status of all live executions of a tenant at one position of the log.

The cost depends on the number of live executions; finished ones cost nothing. A snapshot is made
from small indexes, which may lag behind the log, and from the log, which decides:

1. Read the tenant's newest commit, then the live index. The index holds every execution that was
   live before that commit and still is.
2. Read the newest commit of each of these executions, from a replica that has at least the commit
   of step 1. Its headers contain the execution's status.
3. Read the tenant's newest commit again: this is the snapshot's position. Read what was committed
   since step 1; its headers replace those of step 2. So the order of these reads does not matter.

The position must not be older than what the indexes say. So both reads of the stream's state,
before and after that of the position, must come from a leader that has a quorum: during a partition
an older leader may answer. If one answers in between all the same, an execution that has ended
since is missing. A topic takes no snapshot that is older than what it has seen.

If a commit has no status (an older version wrote it, or it is a part of a larger one), the
execution's log is folded. The same happens if the waiting index does not hold exactly the waits
that the headers describe.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from tailrace_api.dialects.dialect import ILLEGIBLE
from tailrace_api.dialects.snapshot import (
    Ended,
    ExecutionStatus,
    Snapshot,
    SnapshotQuery,
    Statistics,
)
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.live_executions import LiveExecutions, LogEnd, TenantReads
from tailrace_api.fanout.tenants.recent_runs import RecentRuns
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.ids import is_valid_id
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import Result, ResultIndex
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import StartIndex
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.stats_store import StatsStore
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import FEED, LogFilter

# Up to this number of workflows, the live index is read per workflow.
_MAX_INDEX_READS: Final = 16
_MAX_CONCURRENT: Final = 16

_Key = tuple[str, bool]
"""A tenant, and whether a snapshot is of all its workflows."""


class Indexes(NamedTuple):
    """The indexes that snapshots are read from."""

    live: LiveIndex
    results: ResultIndex
    waiting: WaitingIndex
    workflows: WorkflowStore
    starts: StartIndex
    runs: RunIndex
    stats: StatsStore


class Loaded(NamedTuple):
    """A snapshot, and the number of events in the commit at its position."""

    snapshot: Snapshot
    events: int


class Snapshots:
    """Takes snapshots of tenants."""

    def __init__(self, log: ExecutionLog, indexes: Indexes, contexts: Contexts) -> None:
        self._log = log
        self._indexes = indexes
        self._contexts = contexts
        self._live_executions = LiveExecutions(log, contexts)
        self._recent_runs = RecentRuns(
            log, indexes.starts, indexes.runs, indexes.workflows, contexts
        )
        # Loads that have not begun to read, and what they are to contain.
        self._pending: dict[_Key, tuple[asyncio.Task[Loaded], set[SnapshotQuery]]] = {}
        self._turns: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)

    async def load(self, tenant: str, query: SnapshotQuery) -> Loaded:
        """Return a snapshot at the end of the tenant's log, no older than this call.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        key = (tenant, query.is_of_all)
        if key not in self._pending:
            # Callers share it until it has begun to read, also if their queries differ: a thousand
            # clients with as many pipelines cost a few reads.
            task = asyncio.create_task(self._load_soon(key))
            task.add_done_callback(_retrieve_error)
            self._pending[key] = task, set()
        task, queries = self._pending[key]
        queries.add(query)
        loaded = await asyncio.shield(task)
        return loaded._replace(snapshot=loaded.snapshot.restricted(query))

    async def _load_soon(self, key: _Key) -> Loaded:
        # One at a time of each: a tenant that asks often and has many waits would take all slots.
        turn = self._turns.setdefault(key, asyncio.Lock())
        async with turn, self._slots:
            _task, queries = self._pending.pop(key)
            return await self._load(key[0], SnapshotQuery.union(queries))

    async def log_end(self, tenant: str) -> LogEnd:
        """Return the end of a tenant's log, as the stream's leader has it.

        Raises:
            UnavailableError: NATS did not answer, or not consistently.
        """
        part = LogFilter(tenant)
        newest = await self._log.newest(part)
        if newest is None:
            # One answer for both: two could come from different leaders during a partition.
            edge = await self._log.edge(part)
            if not edge.has_commits:
                return LogEnd(edge.last_sequence, None)
            # The first commit was stored between the two reads.
            newest = await self._log.newest(part)
            if newest is None:
                raise UnavailableError(f"the end of the log of tenant {tenant!r} is not known")
        return LogEnd(newest.sequence, newest)

    async def _load(self, tenant: str, query: SnapshotQuery) -> Loaded:
        before = await self.log_end(tenant)
        workflows = await self._live(tenant, query)
        # After the live index: an execution that has left it has its result by now.
        results, waiting, newest, candidates, statistics, _ = await asyncio.gather(
            self._results(tenant, query),
            self._waiting(tenant, query),
            self._last_commits(tenant, workflows, before),
            self._recent_runs.candidates(tenant, query.runs, before),
            self._statistics(tenant, query),
            self._check_leader(),
        )
        end = await self.log_end(tenant)
        await self._check_leader()
        if end.sequence < max([before.sequence, *(each.sequence for each in newest.values())]):
            raise UnavailableError("the leader of the log that answered lags behind")
        reads = TenantReads(tenant, query, end, newest, workflows, results, waiting)
        later = await self._apply_later_commits(reads, before)
        runs = await self._recent_runs.at(tenant, candidates, later)
        executions = await self._live_executions.of(reads)
        commit = end.commit
        return Loaded(
            Snapshot(
                end.sequence,
                executions,
                {name: _ended(result) for name, result in reads.results.items()},
                await self._existing(reads, executions),
                runs,
                statistics,
            ),
            _events(commit) if commit else 0,
        )

    async def _check_leader(self) -> None:
        edge = await self._log.edge()
        if not (edge.is_sole or edge.has_quorum):
            raise UnavailableError("the leader of the log that answered has no quorum")

    async def _live(self, tenant: str, query: SnapshotQuery) -> dict[str, str]:
        index, wanted = self._indexes.live, _workflows_of(query)
        if wanted is None or len(wanted) > _MAX_INDEX_READS:
            entries = await index.of_tenant(tenant)
        else:
            asked = (index.of_tenant(tenant, name) for name in wanted if is_valid_id(name))
            entries = [entry for some in await asyncio.gather(*asked) for entry in some]
        return {
            entry.execution: entry.workflow
            for entry in entries
            if wanted is None or entry.workflow in wanted
        }

    async def _results(self, tenant: str, query: SnapshotQuery) -> dict[str, Result]:
        wanted = filter(is_valid_id, query.workflows or ())
        return await self._indexes.results.of(tenant, wanted) if query.workflows else {}

    async def _waiting(self, tenant: str, query: SnapshotQuery) -> dict[str, list[Waiting]]:
        waiting: dict[str, list[Waiting]] = {}
        for entry in await self._indexes.waiting.of_tenant(tenant) if query.waits else ():
            waiting.setdefault(entry.execution_id, []).append(entry)
        return waiting

    async def _statistics(self, tenant: str, query: SnapshotQuery) -> Statistics | None:
        if not query.statistics:
            return None
        return Statistics(tenant, await self._indexes.stats.runs_of_all(tenant))

    async def _existing(
        self, reads: TenantReads, executions: Iterable[ExecutionStatus]
    ) -> frozenset[str]:
        wanted = reads.query.workflows
        if wanted is None:
            return frozenset()
        running = frozenset(each.context.workflow_id for each in executions)
        return running | await self.existing(reads.tenant, wanted - running)

    async def existing(self, tenant: str, workflows: Iterable[str]) -> frozenset[str]:
        asked = filter(is_valid_id, workflows)
        return frozenset(await self._indexes.workflows.existing(tenant, asked))

    async def _last_commits(
        self, tenant: str, workflows: Mapping[str, str], before: LogEnd
    ) -> dict[str, Commit]:
        if before.commit is None or not workflows:
            return {}
        # The first is known to exist, so its presence shows that a replica is up to date.
        # The others in the order of their starts: each read then concerns a part of the stream, of
        # which the server loads whole blocks from its disk.
        others = sorted(workflows.keys() - {before.commit.execution})
        asked = [before.commit.execution, *others]
        found = await self._log.last_commits(tenant, asked, before.sequence)
        return {name: commit for name, commit in found.items() if name in workflows}

    async def _apply_later_commits(self, reads: TenantReads, before: LogEnd) -> list[Commit]:
        """Apply what was committed since the first read, and return it."""
        if reads.end.commit is None:
            return []
        commits = await self.commits(reads.tenant, before.sequence + 1, reads.end.sequence)
        unknown = [each.execution for each in commits if not each.workflow]
        contexts = await self._contexts.of(reads.tenant, unknown)
        wanted = _workflows_of(reads.query)
        for commit in commits:
            if commit.execution == FEED:
                continue
            workflow = commit.workflow or contexts[commit.execution].workflow_id
            if wanted is None or workflow in wanted:
                earlier = reads.newest.get(commit.execution)
                if earlier is None or commit.sequence > earlier.sequence:
                    reads.newest[commit.execution] = commit
                    reads.workflows[commit.execution] = workflow
        return commits

    async def commits(self, tenant: str, first: int, last: int) -> list[Commit]:
        """Return all commits of a tenant from ``first`` to ``last``, which must be one of them.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        commits: list[Commit] = []

        async def read() -> list[Commit]:
            page, _ = await self._log.page(LogFilter(tenant), first)
            return page

        while first <= last:
            page = await until_caught_up(read, bool, f"tenant {tenant!r}")
            commits += [commit for commit in page if commit.sequence <= last]
            first = page[-1].sequence + 1
        return commits


def _workflows_of(query: SnapshotQuery) -> frozenset[str] | None:
    """Return the workflow ids to include, or None for all."""
    return None if query.is_of_all else query.workflows


def _ended(result: Result) -> Ended:
    return Ended(result.execution_id, result.status, result.at)


def _events(commit: Commit) -> int:
    try:
        return len(split_commit(commit.payload))
    except ILLEGIBLE:
        return 0


def _retrieve_error(task: asyncio.Task[Loaded]) -> None:
    # Retrieved, or asyncio would log an error that no caller waits for any more.
    if not task.cancelled():
        task.exception()
