"""The load is the average share of CPU time over some seconds."""

from tailrace_api.fanout.runtime.load import Load


def _after(load: Load, now: float, cpu: float, seconds: float, share: float) -> tuple[float, float]:
    for _ in range(int(seconds * 20)):
        now, cpu = now + 0.05, cpu + 0.05 * share
        load.observe(now, cpu)
    return now, cpu


def test_a_burst_is_no_overload() -> None:
    """Opening thousands of streams takes all CPU for some seconds."""
    load, now, cpu, seen = Load(100.0, 7.0), 100.0, 7.0, []
    for seconds, share in ((8, 1.0), (8, 1.0), (2, 0.2)):
        now, cpu = _after(load, now, cpu, seconds, share)
        seen.append(load.is_high)
    assert seen == [False, True, False]


def test_a_stalled_loop_counts_as_long_as_it_was_stalled() -> None:
    """Its timers come late, so there is one sample of it."""
    load = Load(0.0, 0.0)
    load.observe(60.0, 59.0)
    assert load.is_high
    load.observe(60.0, 59.0)
    assert load.is_high
