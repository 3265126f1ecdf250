"""Read the status of live executions from their newest commits or, if needed, their logs."""

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
from tailrace_shared.execution.commit_status import CommitStatus, digest_of_waits
from tailrace_shared.execution.commits import split_commit
from tailrace_shared.execution.events import TERMINAL_TYPES
from tailrace_shared.execution.state import ExecutionState, IllegalEventError
from tailrace_shared.execution.transitions import TERMINAL_STATUSES
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.result_index import Result
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.log_records import Commit

_MAX_CONCURRENT: Final = 16
# More executions are examined in a thread, so that the loop does not stall.
_MAX_ON_LOOP: Final = 500

_log = structlog.get_logger("tailrace.api.fanout")
_decode_event = msgspec.json.Decoder(LoggedEvent).decode


class LogEnd(NamedTuple):
    """The end of a tenant's log.

    Attributes:
        sequence: the newest commit of the tenant; without one, the newest of all tenants.
        commit: the newest commit of the tenant, or None.
    """

    sequence: int
    commit: Commit | None


@dataclass(slots=True)
class TenantReads:
    """The reads for one snapshot.

    Attributes:
        newest: by execution that may be live, its newest commit up to the end.
    """

    tenant: str
    query: SnapshotQuery
    end: LogEnd
    newest: dict[str, Commit]
    workflows: dict[str, str]
    results: dict[str, Result]
    waiting: dict[str, list[Waiting]] = field(default_factory=dict)


class LiveExecutions:
    """Reads the status of live executions."""

    def __init__(self, log: ExecutionLog, contexts: Contexts) -> None:
        self._log = log
        self._contexts = contexts

    async def of(self, reads: TenantReads) -> list[ExecutionStatus]:
        """Return the status of all live executions; record ended ones in ``reads.results``.

        Raises:
            UnavailableError: NATS did not answer, or only replicas that lag.
        """
        if len(reads.newest) > _MAX_ON_LOOP:
            statuses, to_fold = await asyncio.to_thread(_indexed, reads)
        else:
            statuses, to_fold = _indexed(reads)
        for commit, state in zip(to_fold, await self._fold_all(reads, to_fold), strict=True):
            known = state.commit_status if state else commit.status
            if known and not _has_ended(reads, commit, known.status):
                waits = _waits_in(state) if state and reads.query.waits else []
                statuses.append(_execution_status(reads, commit, known.status, waits))
        return await self._with_contexts(reads, statuses)

    async def _with_contexts(
        self, reads: TenantReads, statuses: list[ExecutionStatus]
    ) -> list[ExecutionStatus]:
        waiting = [each.context.execution_id for each in statuses if each.waits]
        indexed = {name: _indexed_context(reads.waiting.get(name, [])) for name in waiting}
        contexts = {name: context for name, context in indexed.items() if context is not None}
        contexts |= await self._contexts.of(
            reads.tenant, [name for name in waiting if name not in contexts]
        )
        return [
            each._replace(context=contexts[each.context.execution_id]) if each.waits else each
            for each in statuses
        ]

    async def _fold_all(
        self, reads: TenantReads, commits: list[Commit]
    ) -> list[ExecutionState | None]:
        slots = asyncio.Semaphore(_MAX_CONCURRENT)

        async def fold(commit: Commit) -> ExecutionState | None:
            async with slots:
                return await self._fold(reads, commit)

        return await asyncio.gather(*map(fold, commits))

    async def _fold(self, reads: TenantReads, commit: Commit) -> ExecutionState | None:
        """Return an execution's state after a commit; None if its log is illegible."""
        try:
            return await self._log.fold_to(reads.tenant, commit.execution, commit.sequence)
        except (NewerLogError, IllegalEventError, *ILLEGIBLE) as error:
            execution, reason = commit.execution, str(error)
            _log.warning("snapshot: log is illegible", execution=execution, error=reason)
            return None


def _indexed(reads: TenantReads) -> tuple[list[ExecutionStatus], list[Commit]]:
    """Return what headers and indexes say, and the commits whose logs must be folded."""
    statuses, to_fold = [], []
    for commit in reads.newest.values():
        if (waits := _indexed_waits(reads, commit)) is None:
            to_fold.append(commit)
        elif (known := commit.status) and not _has_ended(reads, commit, known.status):
            statuses.append(_execution_status(reads, commit, known.status, waits))
    return statuses, to_fold


def _indexed_waits(reads: TenantReads, commit: Commit) -> list[WaitingStep] | None:
    """Return the waits to include, or None if the log must be folded to find them."""
    status = commit.status
    if status is None:
        return None
    if not (status.waits and reads.query.waits):
        return []
    return _waits_of(reads.waiting.get(commit.execution, []), status)


def _execution_status(
    reads: TenantReads, commit: Commit, status: str, waits: list[WaitingStep]
) -> ExecutionStatus:
    context = Context(commit.execution, reads.workflows[commit.execution])
    return ExecutionStatus(context, status, waits)


def _indexed_context(entries: list[Waiting]) -> Context | None:
    """Return the context of an execution from its waits, or None if the index lacks its input."""
    for entry in entries:
        if entry.input is not None:
            shown = entry.masked.input
            return Context(entry.execution_id, entry.workflow_id, entry.workflow_name, shown)
    return None


def _waits_of(entries: list[Waiting], status: CommitStatus) -> list[WaitingStep] | None:
    """Return the waits in the index; None if they are not those that the log describes."""
    digest = digest_of_waits((entry.node_id, entry.since) for entry in entries)
    if (len(entries), digest) != (status.waits, status.digest):
        return None
    return _sorted(
        WaitingStep(
            entry.node_id,
            entry.since,
            entry.reason,
            entry.triggers,
            entry.until,
            entry.variables,
        )
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
            step.waiting.variables,
        )
        for step in state.steps.values()
        if step.waits_for_signal and step.waiting is not None
    )


def _sorted(waits: Iterable[WaitingStep]) -> list[WaitingStep]:
    return sorted(waits, key=lambda wait: (wait.since, wait.node_id))


def _has_ended(reads: TenantReads, commit: Commit, status: str) -> bool:
    """Return whether an execution has ended; if so, record it as its workflow's last result."""
    if status not in TERMINAL_STATUSES:
        return False
    workflow = reads.workflows[commit.execution]
    if workflow not in (reads.query.workflows or ()):
        return True
    known = reads.results.get(workflow)
    # A result beyond the end of the log belongs to an earlier log that was deleted.
    if known is None or not commit.sequence <= known.sequence <= reads.end.sequence:
        ended_at = _ended_at(commit)
        reads.results[workflow] = Result(commit.execution, status, commit.sequence, ended_at)
    return True


def _ended_at(commit: Commit) -> str:
    try:
        events = map(_decode_event, split_commit(commit.payload))
        return next((event.timestamp for event in events if event.type in TERMINAL_TYPES), "")
    except ILLEGIBLE:
        return ""  # only the headers are legible
