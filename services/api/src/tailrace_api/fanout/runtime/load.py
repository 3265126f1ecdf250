"""How busy the event loop is.

A process that delivers more than its CPU can would delay every stream and request. So while it has
been busy nearly all the time, tenants with at least as many streams as tenants have on average open
no more of them. A tenant without others is such a tenant. Opening many streams at once takes all
CPU for some seconds, and is no overload.
"""

from typing import Final

# The time over which the load is averaged.
_PERIOD_S: Final = 5.0
_BUSY: Final = 0.9


class Load:
    """The share of time in which the event loop's thread has used the CPU, lately.

    Args:
        now: the time, in seconds.
        cpu: the CPU time that the thread has used so far, in seconds.
    """

    def __init__(self, now: float, cpu: float) -> None:
        self.share = 0.0
        self._now = now
        self._cpu = cpu

    @property
    def is_high(self) -> bool:
        return self.share >= _BUSY

    def observe(self, now: float, cpu: float) -> None:
        """Take the CPU time that the thread has used up to a time."""
        passed, used = now - self._now, cpu - self._cpu
        if passed <= 0:
            return
        self._now, self._cpu = now, cpu
        weight = min(passed / _PERIOD_S, 1.0)
        self.share += (min(used / passed, 1.0) - self.share) * weight
