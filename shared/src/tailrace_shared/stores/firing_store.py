"""The last firing of each schedule."""

from collections.abc import Iterable
from typing import Final

import msgspec

from tailrace_shared.errors import UnavailableError
from tailrace_shared.ids import check_id
from tailrace_shared.nats.bucket import Bucket

_MAX_TRIES: Final = 8
# Keys of duties, which are in the same bucket, have no such token.
_FIRED: Final = "fired"


class Firing(msgspec.Struct, frozen=True):
    """A firing of a schedule.

    Attributes:
        at: its time by the schedule, in seconds since the epoch.
        execution_id: the run that it started; None if it was skipped, because another was active.
    """

    at: float
    execution_id: str | None


_decode = msgspec.json.Decoder(Firing).decode


class FiringStore:
    """Records and reads the last firings.

    Args:
        bucket: the bucket of leases, which needs no version of the topology of its own.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def record(self, tenant: str, schedule_id: str, firing: Firing) -> None:
        """Record a firing, unless a later one is recorded.

        Raises:
            UnavailableError: NATS did not answer, or others write at the same time.
        """
        key = _key(tenant, schedule_id)
        for _ in range(_MAX_TRIES):
            entry = await self._bucket.get_newest(key)
            if entry is not None and _decode(entry.value).at >= firing.at:
                return
            revision = 0 if entry is None else entry.revision
            if await self._bucket.replace(key, msgspec.json.encode(firing), revision) is not None:
                return
        raise UnavailableError(f"the firings of {schedule_id!r} are written by other processes")

    async def last(self, tenant: str, schedules: Iterable[str]) -> dict[str, Firing]:
        """Return the last firing of each of these schedules; those without one are left out."""
        keys = {_key(tenant, each): each for each in schedules}
        entries = await self._bucket.get_many(keys)
        return {keys[entry.key]: _decode(entry.value) for entry in entries}

    async def forget(self, tenant: str, schedule_id: str) -> None:
        """Delete the record of a schedule that is deleted."""
        await self._bucket.purge(_key(tenant, schedule_id))


def _key(tenant: str, schedule_id: str) -> str:
    return f"{_FIRED}.{check_id(tenant, 'tenant')}.{check_id(schedule_id, 'schedule')}"
