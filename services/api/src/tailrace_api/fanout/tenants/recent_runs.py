"""Read the newest runs of a tenant at one position of its log.

The start index says which runs may be the newest; its rows are written before the runs exist. The
newest commit of each run has its status. The rest of its summary is in the run index, which may lag
behind or be ahead: if it has another status, the run's log is folded.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from tailrace_api.dialects.dialect import ILLEGIBLE
from tailrace_api.dialects.runs import MAX_LISTED
from tailrace_api.dialects.snapshot import RunsOf
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.live_executions import LogEnd
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    HistoryExpiredError,
    NewerLogError,
    WorkflowNotFoundError,
)
from tailrace_shared.execution.state import ExecutionState, IllegalEventError, fold
from tailrace_shared.execution.summary import RunSummary, summary_of
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.run_index import RunIndex
from tailrace_shared.stores.indexes.start_index import BACKFILLED, STARTED, StartIndex, kind_of_tag
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.workflow_store import WorkflowStore

_MAX_CONCURRENT: Final = 16

_log = structlog.get_logger("tailrace.api.fanout")

Candidates = Mapping[RunsOf, Mapping[str, Commit]]
"""By kind of runs, the newest commit of each run that may be among the newest."""


class RecentRuns:
    """Reads summaries of the newest runs."""

    def __init__(
        self,
        log: ExecutionLog,
        starts: StartIndex,
        runs: RunIndex,
        workflows: WorkflowStore,
        contexts: Contexts,
    ) -> None:
        self._log = log
        self._starts = starts
        self._runs = runs
        self._workflows = workflows
        self._contexts = contexts

    async def candidates(
        self, tenant: str, kinds: Iterable[RunsOf], before: LogEnd
    ) -> dict[RunsOf, dict[str, Commit]]:
        """Return the newest commits of the newest runs of some kinds.

        Args:
            tenant: the tenant.
            kinds: the kinds of runs.
            before: the end of the tenant's log, read before.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        return {kind: await self._candidates(tenant, kind, before) for kind in kinds}

    async def _candidates(self, tenant: str, kind: RunsOf, before: LogEnd) -> dict[str, Commit]:
        found: dict[str, Commit] = {}
        if before.commit is None:
            return found
        rows = (STARTED, BACKFILLED) if kind.tag is None else (kind_of_tag(kind.tag),)
        pages = self._starts.newest_first(tenant, kind.workflow, MAX_LISTED, kinds=rows)
        # This one is known to exist, so that its presence shows that a replica is up to date.
        known = before.commit.execution
        async for page in pages:
            ids = dict.fromkeys([known, *(row.start.execution_id for row in page)])
            commits = await self._log.last_commits(tenant, [*ids], before.sequence)
            # A row without an execution is that of a start that was never completed.
            found |= {
                row.start.execution_id: commits[row.start.execution_id]
                for row in page
                if row.start.execution_id in commits
            }
            if len(found) >= MAX_LISTED:
                break
        return found

    async def at(
        self, tenant: str, candidates: Candidates, later: Sequence[Commit]
    ) -> dict[RunsOf, list[RunSummary]]:
        """Return the newest runs at the end of the log.

        Args:
            tenant: the tenant.
            candidates: the runs that were the newest a moment ago.
            later: what has been committed since.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        wanted: dict[RunsOf, dict[str, Commit]] = {}
        for kind, found in candidates.items():
            wanted[kind] = runs = dict(found)
            for commit in later:
                context = self._contexts.learn(tenant, commit.execution, commit.payload)
                is_new = context is not None and kind.includes(context)
                if is_new or commit.execution in runs:
                    runs[commit.execution] = commit
            for oldest in sorted(runs)[: len(runs) - MAX_LISTED]:
                del runs[oldest]
        newest = {name: commit for runs in wanted.values() for name, commit in runs.items()}
        summaries = await self._summaries(tenant, newest)
        return {
            kind: [summaries[name] for name in sorted(runs, reverse=True) if name in summaries]
            for kind, runs in wanted.items()
        }

    async def _summaries(self, tenant: str, newest: Mapping[str, Commit]) -> dict[str, RunSummary]:
        keys = [(commit.workflow, name) for name, commit in newest.items() if commit.workflow]
        indexed = {run.execution_id: run for run in await self._runs.of(tenant, keys)}
        found: dict[str, RunSummary] = {}
        to_fold: list[Commit] = []
        for name, commit in newest.items():
            run, status = indexed.get(name), commit.status
            if run is not None and status is not None and run.status == status.status:
                found[name] = msgspec.structs.replace(run, waits=status.waits)
            else:
                to_fold.append(commit)
        slots = asyncio.Semaphore(_MAX_CONCURRENT)

        async def folded(commit: Commit) -> RunSummary | None:
            async with slots:
                return await self._folded(tenant, commit)

        for run in await asyncio.gather(*map(folded, to_fold)):
            if run is not None:
                found[run.execution_id] = run
        return found

    async def _folded(self, tenant: str, commit: Commit) -> RunSummary | None:
        """Return the summary of a run after a commit; None if its log is illegible or deleted."""
        try:
            if self._contexts.learn(tenant, commit.execution, commit.payload):
                state = fold(commit.events())
            else:
                state = await self._log.fold_to(tenant, commit.execution, commit.sequence)
        except (ExecutionNotFoundError, HistoryExpiredError):
            return None
        except (NewerLogError, IllegalEventError, *ILLEGIBLE) as error:
            execution, reason = commit.execution, str(error)
            _log.warning("snapshot: log is illegible", execution=execution, error=reason)
            return None
        return summary_of(state, await self._nodes(tenant, state))

    async def _nodes(self, tenant: str, state: ExecutionState) -> int:
        try:
            stored = await self._workflows.get(tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError:
            return 0
        return len(stored.definition.nodes)
