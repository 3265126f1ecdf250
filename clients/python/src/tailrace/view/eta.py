"""Estimate the remaining time of a run.

The server's estimate is based on earlier runs and arrives with the start of a run and with progress
reports; it is used until that time has passed. Otherwise an unfinished step is expected to take as
long as similar finished steps: those of the same type whose names differ only in digits (``map_1``
and ``map_2``), else those of the same type, else all. The run takes as long as its longest path of
steps, assuming that independent steps run in parallel.
"""

import re
from collections.abc import Hashable, Iterator
from typing import Final

from tailrace.view.model import SETTLED, Run, Step

_AWAIT: Final = "await"
"""The type of steps that wait for people; their durations say nothing about others."""
_DIGITS: Final = re.compile(r"[0-9]+")
_MIN_PERCENT: Final = 5.0
"""Percent from which a step's own progress is a better estimate than similar steps."""
_OVERDUE_SHARE: Final = 0.2
"""An overdue step is expected to take this share of its elapsed time in addition."""


def remaining_seconds(run: Run, now: float) -> float | None:
    """Return the expected remaining time in seconds, or None without any data."""
    if run.expected_end is not None and run.expected_end > now:
        return run.expected_end - now
    means = _mean_durations(run)
    if not means:
        return None
    ends: dict[str, float] = {}
    for layer in run.layers:
        for node in layer:
            step = run.steps[node]
            begin = max((ends.get(need, 0.0) for need in step.needs), default=0.0)
            ends[node] = begin + _remaining(step, means, now)
    return max(ends.values(), default=0.0)


def _mean_durations(run: Run) -> dict[Hashable, float]:
    sums: dict[Hashable, tuple[float, int]] = {}
    for step in run.steps.values():
        if step.status == "success" and step.duration is not None and step.type != _AWAIT:
            for key in _similarity_keys(step):
                total, count = sums.get(key, (0.0, 0))
                sums[key] = (total + step.duration, count + 1)
    return {key: total / count for key, (total, count) in sums.items()}


def _similarity_keys(step: Step) -> Iterator[Hashable]:
    yield (step.type, _DIGITS.sub("", step.name))
    yield step.type
    yield None


def _remaining(step: Step, means: dict[Hashable, float], now: float) -> float:
    if step.status in SETTLED or step.type == _AWAIT:
        return 0.0
    expected = next(means[key] for key in _similarity_keys(step) if key in means)
    match step.status:
        case "waiting":
            return max((step.due or now) - now, 0.0)
        case "retrying":
            return max((step.due or now) - now, 0.0) + expected
        case "running":
            elapsed = step.elapsed(now) or 0.0
            if step.percent is not None and step.percent >= _MIN_PERCENT:
                return elapsed * (100 - step.percent) / step.percent
            return max(expected - elapsed, elapsed * _OVERDUE_SHARE)
        case _:
            return expected
