"""Snapshots of a tenant: how all that is live stands at one place of the log, exactly.

What they cost is what is live, not what has ended, however much that is. They are made of small
indexes, all of which may lag behind the log, and of the log, which decides:

1. The tenant's newest commit is noted, then the live index is read. What is live at that commit, or
   later, and was live before, is in there.
2. The newest commit of each of these executions says in its headers how the execution stood after
   it, from a replica that has at least the commit of step 1.
3. The tenant's newest commit is noted again: there the snapshot is. What was committed since step 1
   is read, and its headers replace those of step 2. So it does not matter which of these reads came
   first.

A commit that says nothing (an older version wrote it, or it is a part of a larger one) has its
execution's log folded. The same where the waiting index does not have just the waits that the
headers mark.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from tailrace_api.dialects.dialect import ILLEGIBLE
from tailrace_api.dialects.snapshot import Ended, ExecutionStatus, Snapshot, SnapshotQuery
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.live_executions import Found, LiveExecutions, Place
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.ids import is_valid_id
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import Commit, ExecutionLog
from tailrace_shared.stores.indexes.live_index import LiveIndex
from tailrace_shared.stores.indexes.result_index import Result, ResultIndex
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex
from tailrace_shared.stores.workflow_store import WorkflowStore
from tailrace_shared.subjects import LogFilter

# Of so many workflows each is asked for by itself what is live.
_FEW: Final = 16
_AT_ONCE: Final = 16


class Indexes(NamedTuple):
    """The indexes that snapshots are made from."""

    live: LiveIndex
    results: ResultIndex
    waiting: WaitingIndex
    workflows: WorkflowStore


class Loaded(NamedTuple):
    """A snapshot, and how many events the commit has that it stands at."""

    snapshot: Snapshot
    events: int


class Snapshots:
    """Takes snapshots.

    Args:
        log: what is told.
        indexes: where to look first.
        contexts: what is known of executions.
    """

    def __init__(self, log: ExecutionLog, indexes: Indexes, contexts: Contexts) -> None:
        self._log = log
        self._indexes = indexes
        self._contexts = contexts
        self._standings = LiveExecutions(log, contexts)
        self._begun: dict[tuple[str, SnapshotQuery], asyncio.Task[Loaded]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def load(self, tenant: str, wants: SnapshotQuery) -> Loaded:
        """Return a snapshot that stands where the tenant's log ends, not earlier than now.

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
        """
        key = (tenant, wants)
        task = self._begun.get(key)
        if task is None:
            # Whoever asks before it looks where the log ends may have it, too.
            task = self._begun[key] = asyncio.create_task(self._load_soon(key))
            task.add_done_callback(_note_error)
        return await asyncio.shield(task)

    async def _load_soon(self, key: tuple[str, SnapshotQuery]) -> Loaded:
        async with self._slots:
            del self._begun[key]
            return await self._load(*key)

    async def place(self, tenant: str) -> Place:
        """Return where a tenant's log ends, as the leader has it."""
        part = LogFilter(tenant)
        newest = await self._log.newest(part)
        if newest is None:
            edge = (await self._log.edge()).last_sequence
            # Between the two questions there may have been a first commit.
            newest = await self._log.newest(part)
            if newest is None:
                return Place(edge, None)
        return Place(newest.sequence, newest)

    async def _load(self, tenant: str, wants: SnapshotQuery) -> Loaded:
        before = await self.place(tenant)
        workflows = await self._live(tenant, wants)
        # Afterwards: what is not live any more has its result by now.
        results, waiting = await asyncio.gather(
            self._results(tenant, wants), self._waiting(tenant, wants)
        )
        newest = await self._last_commits(tenant, workflows, before)
        place = await self.place(tenant)
        found = Found(tenant, wants, place, newest, workflows, results, waiting)
        await self._take_later(found, before)
        standings = await self._standings.of(found)
        commit = place.commit
        return Loaded(
            Snapshot(
                place.sequence,
                standings,
                {name: _ended(result) for name, result in found.results.items()},
                await self._existing(found, standings),
            ),
            _events(commit) if commit else 0,
        )

    async def _live(self, tenant: str, wants: SnapshotQuery) -> dict[str, str]:
        index, wanted = self._indexes.live, _wanted(wants)
        if wanted is None or len(wanted) > _FEW:
            entries = await index.of_tenant(tenant)
        else:
            asked = (index.of_tenant(tenant, name) for name in wanted if is_valid_id(name))
            entries = [entry for some in await asyncio.gather(*asked) for entry in some]
        return {
            entry.execution: entry.workflow
            for entry in entries
            if wanted is None or entry.workflow in wanted
        }

    async def _results(self, tenant: str, wants: SnapshotQuery) -> dict[str, Result]:
        wanted = filter(is_valid_id, wants.workflows or ())
        return await self._indexes.results.of(tenant, wanted) if wants.workflows else {}

    async def _waiting(self, tenant: str, wants: SnapshotQuery) -> dict[str, list[Waiting]]:
        waiting: dict[str, list[Waiting]] = {}
        for entry in await self._indexes.waiting.of_tenant(tenant) if wants.waits else ():
            waiting.setdefault(entry.execution_id, []).append(entry)
        return waiting

    async def _existing(self, found: Found, standings: Iterable[ExecutionStatus]) -> frozenset[str]:
        wanted = found.wants.workflows
        if wanted is None:
            return frozenset()
        running = frozenset(standing.context.workflow_id for standing in standings)
        return running | await self.existing(found.tenant, wanted - running)

    async def existing(self, tenant: str, workflows: Iterable[str]) -> frozenset[str]:
        """Return those of some workflows that there are.

        Raises:
            UnavailableError: NATS did not answer.
        """
        asked = filter(is_valid_id, workflows)
        return frozenset(await self._indexes.workflows.existing(tenant, asked))

    async def _last_commits(
        self, tenant: str, workflows: Mapping[str, str], before: Place
    ) -> dict[str, Commit]:
        if before.commit is None or not workflows:
            return {}
        # One is known to be there, and so shows which replicas are up to date.
        asked = [before.commit.execution, *(workflows.keys() - {before.commit.execution})]
        found = await self._log.last_commits(tenant, asked, before.sequence)
        return {name: commit for name, commit in found.items() if name in workflows}

    async def _take_later(self, found: Found, before: Place) -> None:
        if found.place.commit is None:
            return
        commits = await self.commits(found.tenant, before.sequence + 1, found.place.sequence)
        unknown = [each.execution for each in commits if not each.workflow]
        contexts = await self._contexts.of(found.tenant, unknown)
        wanted = _wanted(found.wants)
        for commit in commits:
            workflow = commit.workflow or contexts[commit.execution].workflow_id
            if wanted is None or workflow in wanted:
                earlier = found.newest.get(commit.execution)
                if earlier is None or commit.sequence > earlier.sequence:
                    found.newest[commit.execution] = commit
                    found.workflows[commit.execution] = workflow

    async def commits(self, tenant: str, first: int, last: int) -> list[Commit]:
        """Return all commits of a tenant from one sequence to another, which is one of them.

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
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


def _wanted(wants: SnapshotQuery) -> frozenset[str] | None:
    """Return of which workflows the executions are wanted; None: of all."""
    return None if wants.waits else wants.workflows


def _ended(result: Result) -> Ended:
    return Ended(result.execution_id, result.status, result.at)


def _events(commit: Commit) -> int:
    try:
        return len(split_commit(commit.payload))
    except ILLEGIBLE:
        return 0


def _note_error(task: asyncio.Task[Loaded]) -> None:
    # Asyncio would report an error that nobody waits for any more.
    if not task.cancelled():
        task.exception()
