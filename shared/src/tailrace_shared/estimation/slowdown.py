"""How much slower a run is than earlier runs."""

from collections.abc import Sequence
from statistics import fmean
from typing import Final

_OVERDUE_SHARE: Final = 0.2
"""A step that has taken longer than ever before takes this share of its time again."""
_JITTER_S: Final = 0.02
"""Seconds that say nothing about a step's speed."""
_ROUNDS: Final = 4

Durations = Sequence[float]
"""A duration in seconds for each simulation of a run."""


class Slowdown:
    """Estimates the slowdown of a run from its steps so far.

    Args:
        prior_steps: the number of steps that must agree before the run counts as slow or fast.
    """

    def __init__(self, prior_steps: float) -> None:
        self._prior_steps = prior_steps
        self._elapsed = self._expected = self._squares = 0.0
        self._running: list[tuple[float, Durations, float]] = []

    def observe(self, seconds: float, expected: Durations, *, has_ended: bool) -> None:
        """Add a step that took ``seconds``, or has taken them so far."""
        mean = fmean(expected)
        self._expected += mean
        if has_ended:
            self._elapsed += seconds
            self._squares += mean * mean
        else:
            self._running.append((seconds, expected, mean))
            self._squares += mean * min(seconds, mean)

    def factor(self) -> float:
        """Return the factor by which the run is slower than earlier ones.

        Running steps count as well: without them, only the fast steps would. Their remaining
        time depends on the factor itself, which a few rounds of iteration approximate.
        """
        if not self._expected:
            return 1.0
        # The prior acts like a few steps that took the usual time.
        prior = self._prior_steps * self._squares / self._expected + _JITTER_S
        factor = 1.0
        for _ in range(_ROUNDS if self._running else 1):
            elapsed = self._elapsed
            for seconds, expected, _mean in self._running:
                remaining = remaining_after(expected, seconds / factor)
                elapsed += seconds + factor * fmean(remaining)
            factor = (elapsed + prior) / (self._expected + prior)
        return factor


def remaining_after(expected: Durations, elapsed: float) -> Durations:
    """Return the remaining time of a step that has run for ``elapsed`` seconds."""
    longer = [seconds for seconds in expected if seconds > elapsed]
    if not longer:
        return [elapsed * _OVERDUE_SHARE] * len(expected)
    return [longer[index % len(longer)] - elapsed for index in range(len(expected))]
