"""How far the history of each tenant has been deleted.

Executions are deleted one by one, in the order in which they ended, so the log has gaps and its
first sequence does not tell what is missing. The horizon of a tenant is the sequence of the last
commit that was deleted: a reader whose cursor lies before it may have missed events.
"""

from typing import Final

from tailrace_shared.errors import UnavailableError
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket

_MAX_TRIES: Final = 8


class HorizonStore:
    """Reads and raises the horizons of tenants."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def of(self, tenant: str) -> int:
        """Return the last sequence of the tenant that was deleted, or 0."""
        entry = await self._bucket.get_newest(check_id(tenant, "tenant"))
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
