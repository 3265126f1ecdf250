"""A quantile sketch with a bounded relative error.

DDSketch (Masson, Rim, Lee, VLDB 2019): values fall into bins whose bounds grow by a factor, and a
quantile is the middle of its bin. When the values need more bins than allowed, neighbouring bins
are merged in pairs (UDDSketch, Epicoco et al., 2020), so the error grows evenly instead of at one
end. The resolution depends on the values only, not on their order, so merged sketches equal one
sketch of all values.

Bins are sparse, because a history holds thousands of sketches, most of a few values. The library
of the paper's authors (``ddsketch``) keeps dense lists of at least 128 bins, serializes to
protobuf only, cannot be halved, and loses the sum in a merge.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final, Self

_FINEST: Final = 0.01
_GROWTH: Final = math.log((1 + _FINEST) / (1 - _FINEST))


class Sketch:
    """Counts values by bin.

    Args:
        max_bins: maximum number of bins, at least two.
    """

    __slots__ = ("_bins", "_level", "_max_bins", "_zeros", "count")

    def __init__(self, max_bins: int = 256) -> None:
        self._max_bins = max_bins
        self._level = 0
        self._zeros = 0
        self._bins: dict[int, int] = {}
        self.count = 0

    @property
    def relative_error(self) -> float:
        return math.tanh(_GROWTH * 2**self._level / 2)

    def add(self, value: float, times: int = 1) -> None:
        """Add a value; values that are not positive count as 0."""
        self.count += times
        if value <= 0:
            self._zeros += times
            return
        bound = math.ceil(math.log(value) / _GROWTH)
        # Round in two steps, as later merges of bins do.
        key = -(-bound >> self._level)
        self._bins[key] = self._bins.get(key, 0) + times
        self._fit()

    def merge(self, other: Self) -> None:
        self.count += other.count
        self._zeros += other._zeros
        self._coarsen(other._level)
        finer = self._level - other._level
        for key, times in other._bins.items():
            joined = -(-key >> finer)
            self._bins[joined] = self._bins.get(joined, 0) + times
        self._fit()

    def halve(self) -> None:
        """Drop every second value, evenly over all of them."""
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
        """Return the value below which a share (0 to 1) of the values lies; None if empty."""
        return self.quantiles([share])[0] if self.count else None

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """Return the quantiles of ascending ``shares``, or an empty list if there are no values."""
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
    def unpack(cls, packed: Sequence[int], max_bins: int = 256) -> Self:
        """Read the form of :meth:`pack`; an empty list is an empty sketch."""
        sketch = cls(max_bins)
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
    def of(cls, values: Iterable[float], max_bins: int = 256) -> Self:
        sketch = cls(max_bins)
        for value in values:
            sketch.add(value)
        return sketch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]

    def _fit(self) -> None:
        while len(self._bins) > self._max_bins:
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
    """Return the number of values of a packed sketch without unpacking it."""
    return sum(packed[3::2]) + packed[1] if packed else 0
