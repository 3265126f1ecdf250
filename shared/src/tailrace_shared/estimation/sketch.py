"""A sketch of many values, from which quantiles are read with a bounded relative error. Pure.

DDSketch (Masson, Rim, Lee, VLDB 2019): values fall into bins whose bounds grow by a factor, and a
quantile is the middle of its bin. Where the values need more bins than the sketch may have, each
two neighbours become one (UDDSketch, Epicoco and others, 2020): the error grows, evenly, instead
of being lost at one end. How coarse a sketch is follows from its values alone, not from their
order; so sketches that are merged equal one that has seen everything.

Bins are sparse: a record holds thousands of sketches, most of a few values. The Python library of
the paper's authors (``ddsketch``) keeps dense lists of at least 128 bins, has no form but protobuf,
cannot be halved, and forgets the sum when it merges.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Self

_FINEST: Final = 0.01
_GROWTH: Final = math.log((1 + _FINEST) / (1 - _FINEST))


class Sketch:
    """How often values fell where.

    Args:
        most_bins: how many bins it may have, at least two.

    Attributes:
        count: how many values it has seen.
    """

    __slots__ = ("_bins", "_level", "_most_bins", "_zeros", "count")

    def __init__(self, most_bins: int = 256) -> None:
        self._most_bins = most_bins
        self._level = 0
        self._zeros = 0
        self._bins: dict[int, int] = {}
        self.count = 0

    @property
    def relative_error(self) -> float:
        """By how much, at most, a quantile differs from the value that it stands for."""
        return math.tanh(_GROWTH * 2**self._level / 2)

    def add(self, value: float, times: int = 1) -> None:
        """Take a value into account; one that is not positive counts as 0."""
        self.count += times
        if value <= 0:
            self._zeros += times
            return
        bound = math.ceil(math.log(value) / _GROWTH)
        # In two steps, as bins that are joined later round.
        key = -(-bound >> self._level)
        self._bins[key] = self._bins.get(key, 0) + times
        self._fit()

    def merge(self, other: Self) -> None:
        """Take all that another sketch has seen into account."""
        self.count += other.count
        self._zeros += other._zeros
        self._coarsen(other._level)
        finer = self._level - other._level
        for key, times in other._bins.items():
            joined = -(-key >> finer)
            self._bins[joined] = self._bins.get(joined, 0) + times
        self._fit()

    def limit(self, most_bins: int) -> None:
        """Have no more than so many bins from now on."""
        self._most_bins = most_bins
        self._fit()

    def halve(self) -> None:
        """Forget every second value, evenly over all of them."""
        seen = kept = 0
        halved: dict[int, int] = {}
        for key, times in [(None, self._zeros), *sorted(self._bins.items())]:
            seen += times
            rest, kept = seen // 2 - kept, seen // 2
            if key is None:
                self._zeros = rest
            elif rest:
                halved[key] = rest
        self._bins, self.count = halved, kept

    def quantile(self, share: float) -> float | None:
        """Return the value below which a share (0 to 1) of all values lies; None without values."""
        return self.quantiles([share])[0] if self.count else None

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the quantiles of ascending ``shares``; an empty list without values."""
        if not self.count:
            return []
        bins = iter(sorted(self._bins.items()))
        found: list[float] = []
        value, seen = 0.0, self._zeros
        for share in shares:
            rank = math.floor(share * (self.count - 1))
            while seen <= rank:
                key, times = next(bins)
                value, seen = self._middle(key), seen + times
            found.append(value)
        return found

    def pack(self) -> list[int]:
        """Return the sketch as a short list: coarseness, zeros, then steps between bins, counts."""
        packed = [self._level, self._zeros]
        last = 0
        for key, times in sorted(self._bins.items()):
            packed += (key - last, times)
            last = key
        return packed

    @classmethod
    def unpack(cls, packed: Sequence[int], most_bins: int = 256) -> Self:
        """Return the sketch that ``pack`` has written; an empty list is one without values."""
        sketch = cls(most_bins)
        if not packed:
            return sketch
        sketch._level, sketch._zeros = packed[0], packed[1]
        key = 0
        for step, times in zip(packed[2::2], packed[3::2], strict=True):
            key += step
            sketch._bins[key] = times
        sketch.count = sketch._zeros + sum(packed[3::2])
        sketch._fit()
        return sketch

    @classmethod
    def of(cls, values: Iterable[float], most_bins: int = 256) -> Self:
        """Return a sketch of some values."""
        sketch = cls(most_bins)
        for value in values:
            sketch.add(value)
        return sketch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]

    def _fit(self) -> None:
        while len(self._bins) > self._most_bins:
            self._coarsen(self._level + 1)

    def _coarsen(self, level: int) -> None:
        by = level - self._level
        if by <= 0:
            return
        joined: dict[int, int] = {}
        for key, times in self._bins.items():
            coarse = -(-key >> by)
            joined[coarse] = joined.get(coarse, 0) + times
        self._bins, self._level = joined, level

    def _middle(self, key: int) -> float:
        growth = _GROWTH * 2**self._level
        return 2 * math.exp(growth * (key - 1)) / (1 + math.exp(-growth))


def count_of(packed: Sequence[int]) -> int:
    """Return how many values a packed sketch has seen, without unpacking it."""
    return sum(packed[3::2]) + packed[1] if packed else 0
