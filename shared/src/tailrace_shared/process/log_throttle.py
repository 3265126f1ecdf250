"""Limits how often a repeated condition is logged."""

import time
from typing import Final

_INTERVAL_S: Final = 60.0


class LogThrottle:
    """Admits one log line per interval, however many callers meet the same condition.

    Args:
        interval_s: seconds between two lines.
    """

    def __init__(self, interval_s: float = _INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._last: float | None = None

    def is_due(self) -> bool:
        """Return whether to log now; the next line is then due an interval later."""
        now = time.monotonic()
        if self._last is not None and now - self._last < self._interval_s:
            return False
        self._last = now
        return True
