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
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import structlog

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, LoggedEvent
from tailrace_api.dialects.snapshot import Ended, Snapshot, Standing, Wait, Wants
from tailrace_api.fanout.contexts import Contexts
from tailrace_shared.errors import NewerLogError, UnavailableError
from tailrace_shared.execution import standing as told
from tailrace_shared.execution.events import TERMINAL_TYPES, split_commit
from tailrace_shared.execution.state import TERMINAL_STATUSES, ExecutionState, IllegalEventError
from tailrace_shared.execution_log import Commit, ExecutionLog
from tailrace_shared.ids import is_valid_id
from tailrace_shared.jetstream import LAG
from tailrace_shared.live_index import LiveIndex
from tailrace_shared.result_index import Result, ResultIndex
from tailrace_shared.subjects import LogFilter
from tailrace_shared.waiting_index import Waiting, WaitingIndex
from tailrace_shared.workflow_store import WorkflowStore

# Of so many workflows each is asked for by itself what is live.
_FEW: Final = 16
_AT_ONCE: Final = 16

_log = structlog.get_logger("tailrace.api.fanout")
_decode_event = msgspec.json.Decoder(LoggedEvent).decode


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


class Place(NamedTuple):
    """Where a tenant's log ends: its newest commit, or none and the end of all logs."""

    sequence: int
    commit: Commit | None


@dataclass(slots=True)
class _Found:
    """What has been found out of a tenant so far."""

    tenant: str
    wants: Wants
    place: Place
    newest: dict[str, Commit]
    workflows: dict[str, str]
    results: dict[str, Result]
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)


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
        self._begun: dict[tuple[str, Wants], asyncio.Task[Loaded]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def load(self, tenant: str, wants: Wants) -> Loaded:
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

    async def _load_soon(self, key: tuple[str, Wants]) -> Loaded:
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

    async def _load(self, tenant: str, wants: Wants) -> Loaded:
        before = await self.place(tenant)
        workflows = await self._live(tenant, wants)
        # Afterwards: what is not live any more has its result by now.
        results, waiting = await asyncio.gather(
            self._results(tenant, wants), self._waiting(tenant, wants)
        )
        newest = await self._last_commits(tenant, workflows, before)
        place = await self.place(tenant)
        found = _Found(tenant, wants, place, newest, workflows, results, waiting)
        await self._take_later(found, before)
        standings = await self._standings(found)
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

    # What the indexes say

    async def _live(self, tenant: str, wants: Wants) -> dict[str, str]:
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

    async def _results(self, tenant: str, wants: Wants) -> dict[str, Result]:
        wanted = filter(is_valid_id, wants.workflows or ())
        return await self._indexes.results.of(tenant, wanted) if wants.workflows else {}

    async def _waiting(self, tenant: str, wants: Wants) -> dict[str, list[Waiting]]:
        waiting: dict[str, list[Waiting]] = {}
        for entry in await self._indexes.waiting.of_tenant(tenant) if wants.waits else ():
            waiting.setdefault(entry.execution_id, []).append(entry)
        return waiting

    async def _existing(self, found: _Found, standings: Iterable[Standing]) -> frozenset[str]:
        wanted = found.wants.workflows
        if wanted is None:
            return frozenset()
        running = {standing.context.workflow_id for standing in standings}
        asked = [name for name in wanted - running if is_valid_id(name)]
        existing = await self._indexes.workflows.existing(found.tenant, asked)
        return frozenset(running | existing)

    # What the log says

    async def _last_commits(
        self, tenant: str, workflows: Mapping[str, str], before: Place
    ) -> dict[str, Commit]:
        if before.commit is None or not workflows:
            return {}
        # One is known to be there, and so shows which replicas are up to date.
        asked = [before.commit.execution, *(workflows.keys() - {before.commit.execution})]
        found = await self._log.last_commits(tenant, asked, before.sequence)
        return {name: commit for name, commit in found.items() if name in workflows}

    async def _take_later(self, found: _Found, before: Place) -> None:
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
        pauses = iter(LAG)
        while first <= last:
            page, _ = await self._log.page(LogFilter(tenant), first)
            commits += [commit for commit in page if commit.sequence <= last]
            if page:
                first = page[-1].sequence + 1
            elif (pause := next(pauses, None)) is None:
                raise UnavailableError("no replica of the log that answers is up to date")
            else:
                await asyncio.sleep(pause)
        return commits

    # How executions stand

    async def _standings(self, found: _Found) -> list[Standing]:
        standings, untold = [], []
        for commit in found.newest.values():
            if (waits := _told(found, commit)) is None:
                untold.append(commit)
            elif (stand := commit.standing) and not _has_ended(found, commit, stand.status):
                standings.append(_standing(found, commit, stand.status, waits))
        for commit, state in zip(untold, await self._folded_all(found, untold), strict=True):
            known = state.standing if state else commit.standing
            if known and not _has_ended(found, commit, known.status):
                waits = _waits_in(state) if state and found.wants.waits else []
                standings.append(_standing(found, commit, known.status, waits))
        return await self._with_contexts(found.tenant, standings)

    async def _with_contexts(self, tenant: str, standings: list[Standing]) -> list[Standing]:
        waiting = [each.context.execution_id for each in standings if each.waits]
        contexts = await self._contexts.of(tenant, waiting)
        return [
            each._replace(context=contexts[each.context.execution_id]) if each.waits else each
            for each in standings
        ]

    async def _folded_all(
        self, found: _Found, commits: list[Commit]
    ) -> list[ExecutionState | None]:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def fold(commit: Commit) -> ExecutionState | None:
            async with slots:
                return await self._folded(found, commit)

        return await asyncio.gather(*map(fold, commits))

    async def _folded(self, found: _Found, commit: Commit) -> ExecutionState | None:
        """Return an execution as it was with a commit; None if it cannot be told."""
        for pause in LAG:
            state, last = ExecutionState(), 0
            try:
                async for each in self._log.read(found.tenant, commit.execution):
                    if each.sequence > commit.sequence:
                        break
                    last = each.sequence
                    for event in each.events():
                        state.apply(event)
            except (NewerLogError, IllegalEventError, *ILLEGIBLE) as error:
                _log.warning("cannot tell", execution=commit.execution, error=str(error))
                return None
            if last == commit.sequence:
                return state
            await asyncio.sleep(pause)
        raise UnavailableError(f"the log of {commit.execution!r} cannot be read up to date")


def _wanted(wants: Wants) -> frozenset[str] | None:
    """Return of which workflows the executions are wanted; None: of all."""
    return None if wants.waits else wants.workflows


def _told(found: _Found, commit: Commit) -> list[Wait] | None:
    """Return the waits that are wanted of an execution, if no log need be read for that."""
    stand = commit.standing
    if stand is None:
        return None
    if not (stand.waits and found.wants.waits):
        return []
    return _waits_of(found.waiting.get(commit.execution, []), stand)


def _standing(found: _Found, commit: Commit, status: str, waits: list[Wait]) -> Standing:
    context = Context(commit.execution, found.workflows[commit.execution])
    return Standing(context, status, waits)


def _waits_of(entries: list[Waiting], stand: told.Standing) -> list[Wait] | None:
    """Return what the waiting index says; None if that is not what the log says."""
    mark = told.mark_of_all((entry.node_id, entry.since) for entry in entries)
    if (len(entries), mark) != (stand.waits, stand.mark):
        return None
    return _sorted(
        Wait(entry.node_id, entry.since, entry.reason, entry.triggers, entry.until)
        for entry in entries
    )


def _waits_in(state: ExecutionState) -> list[Wait]:
    return _sorted(
        Wait(
            step.node_id,
            step.waiting_since,
            step.waiting.reason,
            step.waiting.triggers,
            step.waiting.until,
        )
        for step in state.steps.values()
        if step.waits_for_signal and step.waiting is not None
    )


def _sorted(waits: Iterable[Wait]) -> list[Wait]:
    return sorted(waits, key=lambda wait: (wait.since, wait.node_id))


def _has_ended(found: _Found, commit: Commit, status: str) -> bool:
    """Tell whether an execution has ended; if so, its workflow's last result may be its own."""
    if status not in TERMINAL_STATUSES:
        return False
    workflow = found.workflows[commit.execution]
    if workflow not in (found.wants.workflows or ()):
        return True
    known = found.results.get(workflow)
    # One that seems to be of the future is of a log that is there no more.
    if known is None or not commit.sequence <= known.sequence <= found.place.sequence:
        ended_at = _time_of_the_end(commit)
        found.results[workflow] = Result(commit.execution, status, commit.sequence, ended_at)
    return True


def _time_of_the_end(commit: Commit) -> str:
    try:
        events = map(_decode_event, split_commit(commit.payload))
        return next((event.timestamp for event in events if event.type in TERMINAL_TYPES), "")
    except ILLEGIBLE:
        return ""  # only its headers can be read


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
