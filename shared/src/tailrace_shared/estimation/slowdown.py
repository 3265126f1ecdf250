"""How slow a run is, compared with earlier ones. Pure."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

_OVERDUE: Final = 0.2
"""A step that has taken longer than any before it takes this share of its time again."""
_JITTER: Final = 0.02
"""Seconds that say nothing of a step's pace."""
_ROUNDS: Final = 4

Durations = Sequence[float]
"""How long something takes, in seconds, in each of several plays of a run."""


class Evidence:
    """How slow a run is, by what its steps have taken so far.

    Args:
        doubt: how many steps must agree.
    """

    def __init__(self, request_reconcile: float) -> None:
        self._doubt = request_reconcile
        self._shown = self._expected = self._squares = 0.0
        self._running: list[tuple[float, Durations, float]] = []

    def add(self, seconds: float, expected: Durations, *, is_over: bool) -> None:
        """Take a step into account that has worked for so long."""
        mean = fmean(expected)
        self._expected += mean
        if is_over:
            self._shown += seconds
            self._squares += mean * mean
        else:
            self._running.append((seconds, expected, mean))
            self._squares += mean * min(seconds, mean)

    def factor(self) -> float:
        """Return how much slower the run is than earlier ones.

        To leave out the steps that still run would be to look at the fast ones only. How long they
        will take depends on what is asked for: some rounds come close enough.
        """
        if not self._expected:
            return 1.0
        # As if some such steps had taken as long as ever: a few tell little.
        request_reconcile = self._doubt * self._squares / self._expected + _JITTER
        factor = 1.0
        for _ in range(_ROUNDS if self._running else 1):
            shown = self._shown
            for seconds, expected, _mean in self._running:
                left = beyond(expected, seconds / factor)
                shown += seconds + factor * fmean(left)
            factor = (shown + request_reconcile) / (self._expected + request_reconcile)
        return factor


def beyond(expected: Durations, elapsed: float) -> Durations:
    """Return what is left of something that has taken ``elapsed`` seconds and is not over."""
    longer = [seconds for seconds in expected if seconds > elapsed]
    if not longer:
        return [elapsed * _OVERDUE] * len(expected)
    return [longer[play % len(longer)] - elapsed for play in range(len(expected))]
