"""Quantile sketches: their accuracy, merging and packing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.estimation.sketch import Sketch, count_of

VALUES = st.lists(
    st.one_of(
        st.just(0.0),
        st.integers(1, 10**9).map(float),
        st.floats(1e-6, 1e12, allow_nan=False, allow_infinity=False),
    ),
    max_size=200,
)
BINS = st.sampled_from([2, 4, 24, 256])
SHARES = (0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 1.0)


def _exact(values: list[float], share: float) -> float:
    return sorted(values)[math.floor(share * (len(values) - 1))]


@given(VALUES.filter(bool), BINS)
def test_quantiles_are_within_the_relative_error(values: list[float], bins: int) -> None:
    """For any values and any number of bins."""
    sketch = Sketch.of(values, bins)
    for share in SHARES:
        exact, found = _exact(values, share), sketch.quantile(share)
        assert found is not None
        assert abs(found - exact) <= exact * (sketch.relative_error + 1e-9)


@given(VALUES, VALUES, VALUES, BINS)
def test_merged_sketches_equal_one_that_saw_everything(
    first: list[float], second: list[float], third: list[float], bins: int
) -> None:
    """In any order and at any resolution."""
    whole = Sketch.of([*first, *second, *third], bins)
    left, right = Sketch.of(first, bins), Sketch.of(third, bins)
    left.merge(Sketch.of(second, bins))
    left.merge(Sketch.of(third, bins))
    right.merge(Sketch.of(second, bins))
    right.merge(Sketch.of(first, bins))
    assert left == right == whole
    assert left.count == whole.count == len(first) + len(second) + len(third)


@given(VALUES, BINS)
def test_packing_is_lossless(values: list[float], bins: int) -> None:
    """The packed list also has the number of values."""
    sketch = Sketch.of(values, bins)
    again = Sketch.unpack(sketch.pack(), bins)
    assert again == sketch
    assert again.count == count_of(sketch.pack()) == len(values)
    assert again.quantiles(SHARES) == sketch.quantiles(SHARES)
    assert len(sketch.pack()) <= 2 + 2 * bins


@given(VALUES)
def test_a_halved_sketch_keeps_its_quantiles(values: list[float]) -> None:
    """Values are dropped evenly, so a quantile moves by at most two ranks."""
    sketch = Sketch.of(values)
    sketch.halve()
    assert sketch.count == len(values) // 2
    ordered = sorted(values)
    for share in SHARES if sketch.count else ():
        rank = share * (len(values) - 1)
        low = ordered[max(math.floor(rank) - 2, 0)]
        high = ordered[min(math.ceil(rank) + 2, len(values) - 1)]
        found = sketch.quantile(share) or 0.0
        assert low * (1 - sketch.relative_error - 1e-9) <= found
        assert found <= high * (1 + sketch.relative_error + 1e-9)


def test_milliseconds_to_days_fit_within_two_percent() -> None:
    """Realistic durations hardly reduce the resolution of 256 bins."""
    sketch = Sketch.of([1.012**power for power in range(1600)])
    assert sketch.relative_error < 0.05
    assert Sketch.of(range(100, 1000)).relative_error == pytest.approx(0.01)


def test_an_empty_sketch_has_no_quantiles() -> None:
    """An empty packed list is an empty sketch."""
    assert Sketch().quantile(0.5) is None
    assert Sketch.unpack([]).quantiles([0.5]) == []
    assert count_of([]) == 0


def test_unpacking_can_reduce_the_bins() -> None:
    """All values are kept in fewer bins."""
    sketch = Sketch.unpack(Sketch.of(range(1, 1000)).pack(), 8)
    assert (len(sketch.pack()) - 2) // 2 <= 8
    assert sketch.count == 999
    assert sketch.quantile(0.5) == pytest.approx(500, rel=sketch.relative_error)
