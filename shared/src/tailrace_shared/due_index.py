"""The due index: by when somebody must have driven each execution that can go on by itself.

Whoever makes an execution depend on a job or a timer says so here first. What is overdue here and
driven by nobody has lost its job, whatever has become of that, and the sweeper gives it another.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from tailrace_shared.bucket import Bucket
from tailrace_shared.ids import check_id
from tailrace_shared.jetstream import JetStream
from tailrace_shared.subjects import Subjects
from tailrace_shared.topology import DUE


class Due(NamedTuple):
    """An execution that somebody must drive.

    Attributes:
        tenant: whose execution.
        execution: which execution.
        by: by when, in seconds since the epoch.
        written_at: when that was written, by the clock of NATS.
        revision: which writing it is.
    """

    tenant: str
    execution: str
    by: float
    written_at: float
    revision: int


class _Entry(msgspec.Struct):
    by: float


_decode = msgspec.json.Decoder(_Entry).decode


class DueIndex:
    """Writes the due index, and reads it whole."""

    def __init__(self, jetstream: JetStream, subjects: Subjects) -> None:
        self._bucket = Bucket(jetstream, subjects.stream(DUE))

    async def put(self, tenant: str, execution: str, by: float) -> None:
        """Say that an execution must be driven by then (seconds since the epoch).

        To be called before what will drive it exists, so that nothing is forgotten in between.
        """
        await self._bucket.put(_key(tenant, execution), msgspec.json.encode(_Entry(by)))

    async def remove(self, tenant: str, execution: str, revision: int | None = None) -> None:
        """Say that nobody need drive an execution before somebody gives it a signal.

        Args:
            tenant: whose execution.
            execution: which execution.
            revision: leave alone what was written after this.
        """
        await self._bucket.purge(_key(tenant, execution), revision)

    async def entries(self) -> AsyncIterator[Due]:
        """Read all entries, those first that were written first."""
        async for entry, written_at in self._bucket.scan("*.*"):
            tenant, _, execution = entry.key.partition(".")
            yield Due(tenant, execution, _decode(entry.value).by, written_at, entry.revision)


def _key(tenant: str, execution: str) -> str:
    return f"{check_id(tenant, 'tenant')}.{check_id(execution, 'execution')}"
