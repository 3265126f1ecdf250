"""A histogram of plain integers, which hot paths update and a scrape reads."""

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, NamedTuple

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds for durations of requests and writes."""
LONG_SECONDS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0, 600.0, 3600.0)
"""Upper bounds for durations of waits and of steps."""


class Exemplar(NamedTuple):
    """A value of a bucket and the trace that it comes from, as prometheus_client reads it."""

    labels: Mapping[str, str]
    value: float
    timestamp: float


class Distribution:
    """A histogram.

    Attributes:
        bounds: the upper bound of each bucket except the last, which is unbounded.
    """

    __slots__ = ("_exemplars", "bounds", "buckets", "total")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.buckets = [0] * (len(bounds) + 1)
        self.total = 0.0
        self._exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, trace_id: str = "") -> None:
        """Count a value.

        Args:
            trace_id: the trace that it comes from, the newest of which each bucket keeps; empty
                if it is not traced.
        """
        bucket = bisect_left(self.bounds, value)
        self.buckets[bucket] += 1
        self.total += value
        if trace_id:
            self._exemplars[bucket] = Exemplar({"trace_id": trace_id}, value, time.time())

    @property
    def count(self) -> int:
        return sum(self.buckets)

    def cumulative(self) -> list[Any]:
        """Return each upper bound, the number of values up to it and the bucket's exemplar.

        This is the form that histograms of prometheus_client take.
        """
        bounds = [*map(str, self.bounds), "+Inf"]
        counts = map(float, accumulate(self.buckets))
        exemplars = map(self._exemplars.get, range(len(bounds)))
        return list(zip(bounds, counts, exemplars, strict=True))
