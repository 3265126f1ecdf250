"""Measures how fast a consumer finishes messages, to size its surplus."""

import time
from typing import Final

#: The surplus is what was finished within this time, up to the maximum below.
_WINDOW_S: Final = 0.05
_MAX_SURPLUS: Final = 500
#: Seconds without a finished message after which the measurement is void.
STALL_S: Final = 0.2


class Throughput:
    """Counts finished messages.

    Attributes:
        surplus: how many messages to prefetch beyond those that run.
    """

    def __init__(self) -> None:
        self.surplus = 0
        self._count = 0
        self._window_start = 0.0
        self._last = 0.0

    def count(self) -> None:
        self._count += 1
        self._last = time.monotonic()
        elapsed = self._last - self._window_start
        if elapsed >= _WINDOW_S:
            self.surplus = min(int(self._count * _WINDOW_S / elapsed), _MAX_SURPLUS)
            self._count, self._window_start = 0, self._last

    def reset_if_stalled(self) -> bool:
        """Set the surplus to zero if nothing was finished lately; return whether it was so."""
        if time.monotonic() - self._last < STALL_S:
            return False
        self.surplus = 0
        return True
