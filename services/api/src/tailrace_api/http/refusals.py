"""Counts and logs requests that the protocol refuses; no route and no access log sees them."""

import time
from collections.abc import Callable
from typing import Final

import structlog

# Minimum interval between log messages: invalid requests may arrive in masses.
_LOG_INTERVAL_S: Final = 1.0

_log = structlog.get_logger("tailrace.api.access")


class Refusals:
    """Counts all refused requests, and logs at most one per second.

    Only the origin of a request is logged: its head is unread or incomplete, and may hold
    credentials at any place.

    Args:
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self, count: Callable[[int], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._now = now
        self._next_log_at = float("-inf")
        self._suppressed = 0

    def note(self, status: int, reason: str, client: str) -> None:
        """Count a refused request, and log it unless another was logged within the last second."""
        self._count(status)
        now = self._now()
        if now < self._next_log_at:
            self._suppressed += 1
            return
        more = {"suppressed": self._suppressed} if self._suppressed else {}
        _log.info("request refused", status=status, reason=reason, client=client, **more)
        self._next_log_at, self._suppressed = now + _LOG_INTERVAL_S, 0
