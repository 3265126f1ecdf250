"""Measurements that tests record with pytest's ``record_property``."""

from collections.abc import Callable, Sequence

RecordProperty = Callable[[str, object], None]


def percentiles(samples: Sequence[float]) -> str:
    """Return the median, the 99th percentile and the maximum, in milliseconds."""
    ordered = sorted(samples)
    if not ordered:
        return "none"
    median, high = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"median {median * 1e3:.0f}, p99 {high * 1e3:.0f}, max {ordered[-1] * 1e3:.0f} ms"
