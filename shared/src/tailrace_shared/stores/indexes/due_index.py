"""The index of deadlines by which executions must be driven again.

A service writes the deadline before it makes an execution depend on a job or a timer. An overdue
execution that no worker drives has lost its job, and the sweeper publishes another.
"""

import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Final, NamedTuple

import msgspec

from tailrace_shared.errors import ServiceError, UnavailableError
from tailrace_shared.ids import check_id, new_token
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import DUE
from tailrace_shared.subjects import Subjects

NOW: Final = 0.0
"""The deadline of what is due at once; it needs no clock other than that of NATS."""


class Due(NamedTuple):
    """An execution that a worker must drive.

    Attributes:
        tenant: the tenant of the execution.
        execution: its id.
        by: the deadline, in seconds since the epoch.
        written_at: when the entry was written, by the clock of NATS.
        revision: the entry's revision.
        request: the id of the request that wrote it; None for the execution's own entry.
    """

    tenant: str
    execution: str
    by: float
    written_at: float
    revision: int
    request: str | None = None


class _Deadline(msgspec.Struct):
    by: float


_decode = msgspec.json.Decoder(_Deadline).decode


class DueIndex:
    """Writes and reads the due index."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(DUE))

    async def put(self, tenant: str, execution: str, by: float, request: str | None = None) -> None:
        """Record the deadline by which an execution must be driven again.

        Call it before the job or timer exists, so that a crash in between loses nothing.

        Args:
            tenant: the tenant of the execution.
            execution: its id.
            by: the deadline, in seconds since the epoch.
            request: the id of a request. It makes a separate entry, which the worker that drives
                the execution meanwhile does not remove.
        """
        await self._bucket.put(_key(tenant, execution, request), msgspec.json.encode(_Deadline(by)))

    async def remove(
        self,
        tenant: str,
        execution: str,
        revision: int | None = None,
        request: str | None = None,
    ) -> None:
        """Remove the deadline of an execution: it needs no job until it gets a signal.

        Args:
            tenant: the tenant of the execution.
            execution: its id.
            revision: keep an entry that was written after this revision.
            request: the id of the request whose entry to remove; None for the execution's own.
        """
        await self._bucket.purge(_key(tenant, execution, request), revision)

    @contextlib.asynccontextmanager
    async def watched_request(self, tenant: str, execution: str) -> AsyncIterator[None]:
        """Have the sweeper watch an execution while a request is made of it.

        The requesting process may die between the append of its command and the job that applies
        it.
        """
        request = new_token()
        await self.put(tenant, execution, NOW, request)
        try:
            yield
        except UnavailableError:
            raise  # the command may have been recorded: leave the entry to the sweeper
        except ServiceError:
            await self.remove(tenant, execution, request=request)
            raise
        await self.remove(tenant, execution, request=request)

    async def edge(self) -> tuple[int, float]:
        """Return the newest revision, and the time of NATS in seconds since the epoch.

        Raises:
            JetStreamError: JetStream refused.
            UnavailableError: NATS did not answer.
        """
        return await self._bucket.edge()

    async def entries(self, revision: int = 1) -> AsyncIterator[Due]:
        """Read all entries that were written since a revision, oldest first."""
        async for entry, written_at in self._bucket.scan(">", revision):
            tenant, execution, *request = entry.key.split(".")
            by = _decode(entry.value).by
            of = request[0] if request else None
            yield Due(tenant, execution, by, written_at, entry.revision, of)

    async def current(self, entries: Collection[Due]) -> set[int]:
        """Return the revisions of those entries that have not been removed or replaced."""
        keys = [_key(each.tenant, each.execution, each.request) for each in entries]
        found = {entry.revision for entry in await self._bucket.get_many(keys)}
        return found & {each.revision for each in entries}


def _key(tenant: str, execution: str, request: str | None) -> str:
    key = f"{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"
    return key if request is None else f"{key}.{check_id(request, 'request')}"
