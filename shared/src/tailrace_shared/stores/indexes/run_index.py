"""The index of run summaries, one for each execution, for lists.

Derived from the log and repairable from it: the service that changes an execution's status writes
its summary. The start index gives the order of a list, and knows the runs that failed or were
cancelled.
"""

from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

import msgspec

from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.summary import RunSummary, summary_of
from tailrace_shared.execution.transitions import TERMINAL_STATUSES
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import RUNS
from tailrace_shared.stores.indexes.start_index import ENDED, Start, StartIndex
from tailrace_shared.subjects import Subjects


class StoredRun(NamedTuple):
    """A run summary as the bucket holds it.

    Attributes:
        tenant: the tenant of the execution.
        summary: the summary.
        revision: the revision of the bucket that wrote it.
        written_at: when it was written, by the clock of NATS, in seconds since the epoch. For a
            summary that a restore wrote anew, when the execution's last commit was stored.
    """

    tenant: str
    summary: RunSummary
    revision: int
    written_at: float


class WrittenRun(NamedTuple):
    """A run summary, as :meth:`RunIndex.written_since` reads it.

    Attributes:
        is_of_older_version: whether version 0.2 wrote it.
    """

    tenant: str
    summary: RunSummary
    revision: int
    is_of_older_version: bool


class _Versioned(msgspec.Struct):
    """The field that version 0.2 does not write."""

    parent: str | msgspec.UnsetType | None = msgspec.UNSET


_decode = msgspec.json.Decoder(RunSummary).decode
_decode_versioned = msgspec.json.Decoder(_Versioned).decode


class RunIndex:
    """Writes run summaries and reads pages of them."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(RUNS))
        self._starts = StartIndex(jetstream, subjects)

    async def put(
        self,
        tenant: str,
        state: ExecutionState,
        nodes: int = 0,
        eta_ms: int | None = None,
        *,
        as_of: float | None = None,
    ) -> None:
        """Write the summary of an execution, and its second row if it was not completed.

        Args:
            tenant: the tenant of the execution.
            state: the execution.
            nodes: the number of nodes of its definition; 0 if unknown.
            eta_ms: the estimated remaining time, in milliseconds; None if unknown.
            as_of: when its last commit was stored, in seconds since the epoch, if the summary is
                written anew; None if the commit was stored now.
        """
        key = f"{check_id(tenant, 'tenant')}.{state.workflow_id}.{state.execution_id}"
        summary = summary_of(state, nodes, eta_ms)
        if state.status in ENDED:
            await self._starts.add_end(tenant, state.workflow_id, start_of(summary), state.status)
        await self._bucket.put(key, msgspec.json.encode(summary), as_of=as_of)

    async def unfinished(self) -> AsyncIterator[tuple[str, RunSummary]]:
        """Read all runs that have not ended, each with its tenant. It reads every summary.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for entry, _written_at in self._bucket.scan(">"):
            run = _decode(entry.value)
            if run.status not in TERMINAL_STATUSES:
                yield entry.key.partition(".")[0], run

    async def oldest_first(self) -> AsyncIterator[StoredRun]:
        """Read all summaries in the order in which they were written.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for entry, written_at in self._bucket.scan(">"):
            tenant = entry.key.partition(".")[0]
            yield StoredRun(tenant, _decode(entry.value), entry.revision, written_at)

    async def written_since(self, revision: int) -> AsyncIterator[WrittenRun]:
        """Read the summaries that were written since a revision, in that order.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async for entry in self._bucket.scan_from(">", revision):
            tenant = entry.key.partition(".")[0]
            is_older = _decode_versioned(entry.value).parent is msgspec.UNSET
            yield WrittenRun(tenant, _decode(entry.value), entry.revision, is_older)

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

    async def keys(self, tenant: str, workflow: str | None) -> list[tuple[str, str]]:
        """Return workflow and execution of all summaries of a tenant, or of one of its workflows.

        Raises:
            UnavailableError: NATS did not answer.
        """
        which = "*" if workflow is None else check_id(workflow, "workflow")
        keys = await self._bucket.keys(f"{check_id(tenant, 'tenant')}.{which}.*")
        return [(parts[1], parts[2]) for key in keys if (parts := key.split("."))]

    async def of(self, tenant: str, runs: Iterable[tuple[str, str]]) -> list[RunSummary]:
        """Return the summaries of some runs (workflow, execution) that have one, unordered.

        Raises:
            UnavailableError: NATS did not answer.
        """
        check_id(tenant, "tenant")
        keys = [f"{tenant}.{workflow}.{execution}" for workflow, execution in runs]
        return [_decode(entry.value) for entry in await self._bucket.get_many(keys)]


def start_of(run: RunSummary) -> Start:
    """Return the row of a run in the start index."""
    return Start(run.execution_id, run.version, run.created_at, run.parent)


def _key_of(run: StoredRun) -> str:
    return f"{run.tenant}.{run.summary.workflow_id}.{run.summary.execution_id}"
