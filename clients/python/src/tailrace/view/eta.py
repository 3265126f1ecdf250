"""How long a run will still take: as Tailrace tells it, or from how long its steps have taken.

Tailrace knows of earlier runs, so what it tells, with a run's start and with the reports of its
nodes, goes first until that time has passed. Otherwise a step that has not finished is expected to
take as long as finished ones like it: those of the same type whose names differ only in their
digits (``map_1`` and ``map_2``), else those of the same type, else all. The run takes as long as
its longest path of such steps, since what may run beside each other does.
"""

import re
from collections.abc import Hashable, Iterator
from typing import Final

from tailrace.view.model import SETTLED, Run, Step

_AWAIT: Final = "await"
"""The type of steps that wait for people: how long they took tells nothing."""
_DIGITS: Final = re.compile(r"[0-9]+")
_TELLING: Final = 5.0
"""Percent from which on a step's own progress tells more than its likes do."""
_OVERDUE: Final = 0.2
"""A step that takes longer than its likes will, by experience, take a while longer."""


def remaining_seconds(run: Run, now: float) -> float | None:
    """Return the expected time until the run ends; None as long as nothing tells."""
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
            for likeness in _likenesses(step):
                total, count = sums.get(likeness, (0.0, 0))
                sums[likeness] = (total + step.duration, count + 1)
    return {likeness: total / count for likeness, (total, count) in sums.items()}


def _likenesses(step: Step) -> Iterator[Hashable]:
    yield (step.type, _DIGITS.sub("", step.name))
    yield step.type
    yield None


def _remaining(step: Step, means: dict[Hashable, float], now: float) -> float:
    if step.status in SETTLED or step.type == _AWAIT:
        return 0.0
    expected = next(means[likeness] for likeness in _likenesses(step) if likeness in means)
    match step.status:
        case "waiting":
            return max((step.due or now) - now, 0.0)
        case "retrying":
            return max((step.due or now) - now, 0.0) + expected
        case "running":
            elapsed = step.elapsed(now) or 0.0
            if step.percent is not None and step.percent >= _TELLING:
                return elapsed * (100 - step.percent) / step.percent
            return max(expected - elapsed, elapsed * _OVERDUE)
        case _:
            return expected
