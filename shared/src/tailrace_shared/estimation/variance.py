"""Divide the variance of durations between single steps and whole runs.

If a run is slow as a whole (it has more work, or the machine is busy), all of its steps are slow.
The history of a node mixes both causes, but an estimate must not. If it treated every slow step
as a coincidence, it would expect one slow step among many in every run, and every run would look
as slow as its slowest step. The total work of a run separates the causes: random differences of
single steps average out in it.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Final, NamedTuple

_MIN_S: Final = 0.001
_MAX_PRIOR_STEPS: Final = 30.0
_MIN_PRIOR_STEPS: Final = 0.5
_DEFAULT_PRIOR_STEPS: Final = 4.0
_MAX_DOMINANCE: Final = 0.8
"""If one step makes up more of a run than this, steps and runs cannot be separated."""


class Variance(NamedTuple):
    """The variance of durations, divided between steps and runs.

    Attributes:
        step_share: the share of a node's spread that comes from the step and not from the run,
            from 0 to 1.
        prior_steps: the number of steps that must agree before a run counts as slow or fast.
    """

    step_share: float = 1.0
    prior_steps: float = _DEFAULT_PRIOR_STEPS

    def without_run(self, seconds: Sequence[float]) -> Sequence[float]:
        """Return durations as they would be if all runs were equally fast."""
        if self.step_share >= 1:
            return seconds
        middle = sorted(seconds)[len(seconds) // 2]
        if middle <= 0:
            return seconds
        return [middle * (second / middle) ** self.step_share for second in seconds]


def split_variance(nodes: Sequence[Sequence[float]], work: Sequence[float]) -> Variance:
    """Divide the variance between steps and runs.

    Args:
        nodes: the durations of each node at some quantiles, in any order.
        work: the total duration of a run's steps, at some quantiles.
    """
    means = [fmean(durations) for durations in nodes]
    total = sum(means)
    if total <= 0:
        return Variance()
    # Weighted by duration: the variance of short nodes hardly matters.
    both = sum(mean * _log_variance(node) for mean, node in zip(means, nodes, strict=True)) / total
    dominance = sum(mean * mean for mean in means) / total**2
    if both <= 0 or dominance > _MAX_DOMINANCE:
        return Variance()
    # The work of a run varies as runs do, plus what does not average out over its steps.
    step = min(max((both - _log_variance(work)) / (1 - dominance), 0.0), both)
    prior_steps = step / (both - step) if step < both else _MAX_PRIOR_STEPS
    return Variance(
        math.sqrt(step / both), min(max(prior_steps, _MIN_PRIOR_STEPS), _MAX_PRIOR_STEPS)
    )


def _log_variance(values: Sequence[float]) -> float:
    logs = [math.log(max(value, _MIN_S)) for value in values]
    mean = fmean(logs)
    return fmean((log - mean) ** 2 for log in logs)
