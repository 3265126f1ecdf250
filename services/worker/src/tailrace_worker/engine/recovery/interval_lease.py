"""A periodic duty that one worker of the fleet does in each interval."""

from collections.abc import Callable
from typing import Final

import msgspec

from tailrace_shared.nats.bucket import Bucket

# Less than the interval, so that a worker does not miss its own next turn by a little.
_SHARE: Final = 0.8


class _Claim(msgspec.Struct):
    at: float


class IntervalLease:
    """Decides, by compare-and-set, which worker does a duty in an interval.

    Args:
        interval: the length of the interval, in seconds.
        clock: returns the seconds since the epoch.
    """

    def __init__(
        self, leases: Bucket, duty: str, interval: float, clock: Callable[[], float]
    ) -> None:
        self._leases = leases
        self._duty = duty
        self._interval = interval
        self._clock = clock

    async def claim(self) -> bool:
        """Claim this interval's turn; return False if another worker has it."""
        now = self._clock()
        entry = await self._leases.get_newest(self._duty)
        if entry is not None:
            last = msgspec.json.decode(entry.value, type=_Claim).at
            # A claim from the future is that of a wrong clock and must not end the duty for good.
            if 0 <= now - last < _SHARE * self._interval:
                return False
        value = msgspec.json.encode(_Claim(now))
        revision = 0 if entry is None else entry.revision
        return await self._leases.replace(self._duty, value, revision) is not None
