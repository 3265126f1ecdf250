"""How executions stand by their newest commits, and by their logs where those do not tell."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import structlog

from tailrace_api.dialects.context import Context
from tailrace_api.dialects.dialect import ILLEGIBLE, LoggedEvent
from tailrace_api.dialects.snapshot import ExecutionStatus, SnapshotQuery, WaitingStep
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_shared.errors import NewerLogError
from tailrace_shared.execution import commit_status as told
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.events import TERMINAL_TYPES
from tailrace_shared.execution.state import ExecutionState, IllegalEventError
from tailrace_shared.execution.transitions import TERMINAL_STATUSES
from tailrace_shared.stores.execution_log import Commit, ExecutionLog
from tailrace_shared.stores.indexes.result_index import Result
from tailrace_shared.stores.indexes.waiting_index import Waiting

_AT_ONCE: Final = 16

_log = structlog.get_logger("tailrace.api.fanout")
_decode_event = msgspec.json.Decoder(LoggedEvent).decode


class Place(NamedTuple):
    """Where a tenant's log ends: its newest commit, or none and the end of all logs."""

    sequence: int
    commit: Commit | None


@dataclass(slots=True)
class Found:
    """What has been found out of a tenant so far.

    Attributes:
        tenant: which.
        wants: what is asked for.
        place: where its log ends.
        newest: of each execution that may be live, its newest commit up to there.
        workflows: of each, what it runs.
        results: of each workflow that is asked for, how a run of it ended last.
        waiting: of each execution, what the waiting index says.
    """

    tenant: str
    wants: SnapshotQuery
    place: Place
    newest: dict[str, Commit]
    workflows: dict[str, str]
    results: dict[str, Result]
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)


class LiveExecutions:
    """Tells how executions stand.

    Args:
        log: what is told.
        contexts: what is known of executions.
    """

    def __init__(self, log: ExecutionLog, contexts: Contexts) -> None:
        self._log = log
        self._contexts = contexts

    async def of(self, found: Found) -> list[ExecutionStatus]:
        """Return how all that is live stands; who has ended is noted in the results.

        Raises:
            UnavailableError: NATS did not answer, or no replica that is up to date.
        """
        standings, untold = [], []
        for commit in found.newest.values():
            if (waits := _told(found, commit)) is None:
                untold.append(commit)
            elif (stand := commit.status) and not _has_ended(found, commit, stand.status):
                standings.append(_standing(found, commit, stand.status, waits))
        for commit, state in zip(untold, await self._folded_all(found, untold), strict=True):
            known = state.commit_status if state else commit.status
            if known and not _has_ended(found, commit, known.status):
                waits = _waits_in(state) if state and found.wants.waits else []
                standings.append(_standing(found, commit, known.status, waits))
        return await self._with_contexts(found.tenant, standings)

    async def _with_contexts(
        self, tenant: str, standings: list[ExecutionStatus]
    ) -> list[ExecutionStatus]:
        waiting = [each.context.execution_id for each in standings if each.waits]
        contexts = await self._contexts.of(tenant, waiting)
        return [
            each._replace(context=contexts[each.context.execution_id]) if each.waits else each
            for each in standings
        ]

    async def _folded_all(self, found: Found, commits: list[Commit]) -> list[ExecutionState | None]:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def fold(commit: Commit) -> ExecutionState | None:
            async with slots:
                return await self._folded(found, commit)

        return await asyncio.gather(*map(fold, commits))

    async def _folded(self, found: Found, commit: Commit) -> ExecutionState | None:
        """Return an execution as it was with a commit; None if it cannot be told."""
        try:
            return await self._log.fold_to(found.tenant, commit.execution, commit.sequence)
        except (NewerLogError, IllegalEventError, *ILLEGIBLE) as error:
            _log.warning("cannot tell", execution=commit.execution, error=str(error))
            return None


def _told(found: Found, commit: Commit) -> list[WaitingStep] | None:
    """Return the waits that are wanted of an execution, if no log need be read for that."""
    stand = commit.status
    if stand is None:
        return None
    if not (stand.waits and found.wants.waits):
        return []
    return _waits_of(found.waiting.get(commit.execution, []), stand)


def _standing(
    found: Found, commit: Commit, status: str, waits: list[WaitingStep]
) -> ExecutionStatus:
    context = Context(commit.execution, found.workflows[commit.execution])
    return ExecutionStatus(context, status, waits)


def _waits_of(entries: list[Waiting], stand: told.CommitStatus) -> list[WaitingStep] | None:
    """Return what the waiting index says; None if that is not what the log says."""
    mark = told.digest_of_waits((entry.node_id, entry.since) for entry in entries)
    if (len(entries), mark) != (stand.waits, stand.digest):
        return None
    return _sorted(
        WaitingStep(entry.node_id, entry.since, entry.reason, entry.triggers, entry.until)
        for entry in entries
    )


def _waits_in(state: ExecutionState) -> list[WaitingStep]:
    return _sorted(
        WaitingStep(
            step.node_id,
            step.waiting_since,
            step.waiting.reason,
            step.waiting.triggers,
            step.waiting.until,
        )
        for step in state.steps.values()
        if step.waits_for_signal and step.waiting is not None
    )


def _sorted(waits: Iterable[WaitingStep]) -> list[WaitingStep]:
    return sorted(waits, key=lambda wait: (wait.since, wait.node_id))


def _has_ended(found: Found, commit: Commit, status: str) -> bool:
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
