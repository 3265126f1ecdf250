"""How far the history of each tenant has been deleted.

Executions are deleted one by one, in the order in which they ended, so the log has gaps and its
first sequence does not tell what is missing. The horizon of a tenant is the sequence of the last
commit that was deleted: a reader whose cursor lies before it may have missed events.
"""

from typing import Final

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.jetstream import STREAM_NOT_FOUND

_MAX_TRIES: Final = 8


class HorizonStore:
    """Reads and raises the horizons of tenants."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def of(self, tenant: str) -> int:
        """Return the last sequence of the tenant that was deleted, or 0.

        It is 0 on version 1 of the topology, which deletes no executions and has no such bucket.
        """
        try:
            entry = await self._bucket.get_newest(check_id(tenant, "tenant"), is_optional=True)
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return 0
            raise
        return 0 if entry is None else int(entry.value)

    async def raise_to(self, tenant: str, sequence: int) -> None:
        """Record that commits up to a sequence may be deleted. A horizon never goes back.

        Raises:
            UnavailableError: NATS did not answer, or others write at the same time.
        """
        for _ in range(_MAX_TRIES):
            entry = await self._bucket.get_newest(check_id(tenant, "tenant"))
            if entry is not None and int(entry.value) >= sequence:
                return
            revision = 0 if entry is None else entry.revision
            if await self._bucket.replace(tenant, str(sequence).encode(), revision) is not None:
                return
        raise UnavailableError(f"the horizon of {tenant!r} is written by another process")
