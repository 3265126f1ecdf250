"""The run index: one summary for each execution, for lists.

Derived from the log and repairable from it: the service that changes an execution's status writes
its summary. Execution ids sort by time, so the keys alone give the order of a list.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

import msgspec

from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.transitions import TERMINAL_STATUSES, ExecutionStatus
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import RUNS
from tailrace_shared.subjects import Subjects

_READ_AHEAD: Final = 200
_MOST_READ: Final = 10_000


class RunSummary(msgspec.Struct, frozen=True):
    """A run in a list."""

    execution_id: str
    workflow_id: str
    version: int
    status: ExecutionStatus
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    duration_ms: int | None
    error: str | None
    parent: str | None = None


class StoredRun(NamedTuple):
    """A run summary as the bucket holds it.

    Attributes:
        tenant: the tenant of the execution.
        summary: the summary.
        revision: the revision of the bucket that wrote it.
        written_at: when it was written, by the clock of NATS, in seconds since the epoch.
    """

    tenant: str
    summary: RunSummary
    revision: int
    written_at: float


class RunPage(NamedTuple):
    """A page of runs, newest first, and the cursor of the next page, or None."""

    runs: list[RunSummary]
    cursor: str | None


_decode = msgspec.json.Decoder(RunSummary).decode


class RunIndex:
    """Writes run summaries and reads pages of them."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(RUNS))

    async def put(self, tenant: str, state: ExecutionState) -> None:
        """Write the summary of an execution."""
        summary = RunSummary(
            execution_id=state.execution_id,
            workflow_id=state.workflow_id,
            version=state.version,
            status=state.status,
            created_at=state.created_at,
            started_at=state.started_at,
            finished_at=state.finished_at,
            duration_ms=state.duration_ms,
            error=state.error,
            parent=None if state.parent is None else state.parent.execution_id,
        )
        key = f"{check_id(tenant, 'tenant')}.{state.workflow_id}.{state.execution_id}"
        await self._bucket.put(key, msgspec.json.encode(summary))

    async def unfinished(self) -> AsyncIterator[tuple[str, RunSummary]]:
        """Read all runs that have not ended, each with its tenant. It reads every summary.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for entry, _written_at in self._bucket.scan("*.*.*"):
            run = _decode(entry.value)
            if run.status not in TERMINAL_STATUSES:
                yield entry.key.partition(".")[0], run

    async def oldest_first(self) -> AsyncIterator[StoredRun]:
        """Read all summaries in the order in which they were written.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for entry, written_at in self._bucket.scan("*.*.*"):
            tenant = entry.key.partition(".")[0]
            yield StoredRun(tenant, _decode(entry.value), entry.revision, written_at)

    async def renew(self, run: StoredRun) -> None:
        """Write a summary again, unchanged, so that it becomes the newest. A newer one stays.

        Raises:
            UnavailableError: NATS did not answer.
        """
        value = msgspec.json.encode(run.summary)
        await self._bucket.replace(_key_of(run), value, run.revision)

    async def remove(self, run: StoredRun) -> None:
        """Remove a summary, unless a newer one was written.

        Raises:
            UnavailableError: NATS did not answer.
        """
        await self._bucket.purge(_key_of(run), run.revision)

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
            cursor: the last execution id of the preceding page.

        A page may be short, and still have a cursor, if few of very many runs have the status.
        """
        pattern = (
            f"{check_id(tenant, 'tenant')}.{check_id(workflow, 'workflow') if workflow else '*'}.*"
        )
        keys = sorted(await self._bucket.keys(pattern), key=_execution_of, reverse=True)
        if cursor is not None:
            keys = [key for key in keys if _execution_of(key) < cursor]
        return await self._collect(keys, lambda run: status is None or run.status == status, limit)

    async def _collect(
        self, keys: list[str], wanted: Callable[[RunSummary], bool], limit: int
    ) -> RunPage:
        runs: list[RunSummary] = []
        for start in range(0, min(len(keys), _MOST_READ), _READ_AHEAD):
            some = keys[start : start + _READ_AHEAD]
            found = [_decode(entry.value) for entry in await self._bucket.get_many(some)]
            found.sort(key=lambda run: run.execution_id, reverse=True)
            runs.extend(run for run in found if wanted(run))
            if len(runs) > limit:
                return RunPage(runs[:limit], runs[limit - 1].execution_id)
        more = len(keys) > _MOST_READ
        return RunPage(runs, _execution_of(keys[_MOST_READ - 1]) if more else None)


def _key_of(run: StoredRun) -> str:
    return f"{run.tenant}.{run.summary.workflow_id}.{run.summary.execution_id}"


def _execution_of(key: str) -> str:
    return key.rpartition(".")[2]
