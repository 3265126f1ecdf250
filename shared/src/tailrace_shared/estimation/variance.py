"""Why durations differ: because of the step, or because of the run. Pure.

If a run is slow as a whole (it has more to do, or the machine is busy), all of its steps are. What
is remembered of a node mixes both. An estimate must not: taking each step for slow by itself, it
would think that of many one is always slow, and a run as slow as its slowest step. How long all
steps of a run took together tells them apart: what is chance in each step evens out there.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

_SHORTEST: Final = 0.001
_MOST_DOUBT: Final = 30.0
_LEAST_DOUBT: Final = 0.5
_USUAL_DOUBT: Final = 4.0
_DOMINATED: Final = 0.8
"""Where one step makes up so much of a run, run and step cannot be told apart."""


class Variance(NamedTuple):
    """How much durations differ.

    Attributes:
        own: which share of a node's spread is its own and not the run's, from 0 to 1.
        doubt: how many steps must agree before a run counts as slow or fast as a whole.
    """

    own: float = 1.0
    request_reconcile: float = _USUAL_DOUBT

    def narrowed(self, seconds: Sequence[float]) -> Sequence[float]:
        """Return durations as they would be if all runs were alike."""
        if self.own >= 1:
            return seconds
        middle = sorted(seconds)[len(seconds) // 2]
        if middle <= 0:
            return seconds
        return [middle * (second / middle) ** self.own for second in seconds]


def spread_of(nodes: Sequence[Sequence[float]], work: Sequence[float]) -> Variance:
    """Tell run and step apart.

    Args:
        nodes: for each node its durations at some quantiles, in any order.
        work: how long all steps of a run took together, at some quantiles.
    """
    means = [fmean(durations) for durations in nodes]
    total = sum(means)
    if total <= 0:
        return Variance()
    # By how long the nodes take: what is short may vary as it likes.
    both = sum(mean * _spread(node) for mean, node in zip(means, nodes, strict=True)) / total
    dominance = sum(mean * mean for mean in means) / total**2
    if both <= 0 or dominance > _DOMINATED:
        return Variance()
    # The work of a run varies as runs do, and by what is left of chance in so many steps.
    own = min(max((both - _spread(work)) / (1 - dominance), 0.0), both)
    request_reconcile = own / (both - own) if own < both else _MOST_DOUBT
    return Variance(math.sqrt(own / both), min(max(request_reconcile, _LEAST_DOUBT), _MOST_DOUBT))


def _spread(values: Sequence[float]) -> float:
    logs = [math.log(max(value, _SHORTEST)) for value in values]
    mean = fmean(logs)
    return fmean((log - mean) ** 2 for log in logs)
