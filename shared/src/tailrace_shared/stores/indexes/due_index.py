"""The due index: by when somebody must have driven each execution that can go on by itself.

Whoever makes an execution depend on a job or a timer says so here first. What is overdue here and
driven by nobody has lost its job, whatever has become of that, and the sweeper gives it another.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import msgspec

from tailrace_shared.errors import ServiceError, UnavailableError
from tailrace_shared.ids import check_id, new_token
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import DUE
from tailrace_shared.subjects import Subjects

NOW: Final = 0.0
"""By when something must happen that has to happen now: no clock but that of NATS is needed."""


class Due(NamedTuple):
    """An execution that somebody must drive.

    Attributes:
        tenant: whose execution.
        execution: which execution.
        by: by when, in seconds since the epoch.
        written_at: when that was written, by the clock of NATS.
        revision: which writing it is.
        request: the request that made it; None for the execution's own.
    """

    tenant: str
    execution: str
    by: float
    written_at: float
    revision: int
    request: str | None = None


class _Entry(msgspec.Struct):
    by: float


_decode = msgspec.json.Decoder(_Entry).decode


class DueIndex:
    """Writes the due index, and reads it whole."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(DUE))

    async def put(self, tenant: str, execution: str, by: float, request: str | None = None) -> None:
        """Say that an execution must be driven by then (seconds since the epoch).

        To be called before what will drive it exists, so that nothing is forgotten in between.

        Args:
            tenant: whose execution.
            execution: which execution.
            by: by when.
            request: an id of what is asked of the execution. It makes an entry of its own, which
                whoever drives the execution meanwhile leaves alone.
        """
        await self._bucket.put(_key(tenant, execution, request), msgspec.json.encode(_Entry(by)))

    async def remove(
        self,
        tenant: str,
        execution: str,
        revision: int | None = None,
        request: str | None = None,
    ) -> None:
        """Say that nobody need drive an execution before somebody gives it a signal.

        Args:
            tenant: whose execution.
            execution: which execution.
            revision: leave alone what was written after this.
            request: whose entry; None for the execution's own.
        """
        await self._bucket.purge(_key(tenant, execution, request), revision)

    @contextlib.asynccontextmanager
    async def watched_request(self, tenant: str, execution: str) -> AsyncIterator[None]:
        """Have an execution looked after while something is asked of it.

        Whoever asks may die between the append of what is asked and the job that has it applied.
        """
        request = new_token()
        await self.put(tenant, execution, NOW, request)
        try:
            yield
        except UnavailableError:
            raise  # it may have been accepted: the sweeper will see
        except ServiceError:
            await self.remove(tenant, execution, request=request)
            raise
        await self.remove(tenant, execution, request=request)

    async def entries(self) -> AsyncIterator[Due]:
        """Read all entries, those first that were written first."""
        async for entry, written_at in self._bucket.scan(">"):
            tenant, execution, *request = entry.key.split(".")
            by = _decode(entry.value).by
            of = request[0] if request else None
            yield Due(tenant, execution, by, written_at, entry.revision, of)


def _key(tenant: str, execution: str, request: str | None) -> str:
    key = f"{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"
    return key if request is None else f"{key}.{check_id(request, 'request')}"
