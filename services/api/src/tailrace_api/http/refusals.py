"""Requests that the protocol refuses by itself: no route and no access log ever hears of them."""

import time
from collections.abc import Callable
from typing import Final

import structlog

# Whoever sends nonsense may send much of it: metrics count all, the log tells of some.
_QUIET: Final = 1.0

_log = structlog.get_logger("tailrace.api.access")


class Refusals:
    """Counts them all, and logs one a second at the most.

    Of a request nothing is logged but where it came from: its head is unread, or not whole, and
    may hold credentials anywhere.

    Args:
        count: counts a request by its status.
        now: a clock, in seconds.
    """

    def __init__(
        self, count: Callable[[int], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._now = now
        self._quiet_until = float("-inf")
        self._untold = 0

    def note(self, status: int, reason: str, client: str) -> None:
        """Note a request.

        Args:
            status: of the answer.
            reason: what the answer says.
            client: the address from which it came.
        """
        self._count(status)
        now = self._now()
        if now < self._quiet_until:
            self._untold += 1
            return
        # Those before it, of which nothing was said.
        more = {"untold": self._untold} if self._untold else {}
        _log.info("request refused", status=status, reason=reason, client=client, **more)
        self._quiet_until, self._untold = now + _QUIET, 0
