"""Repeated conditions are logged once an interval."""

from tailrace_shared.process.log_throttle import LogThrottle


def test_one_line_is_due_per_interval() -> None:
    """All callers within the interval share one line."""
    throttle = LogThrottle(60)
    assert [throttle.is_due() for _ in range(3)] == [True, False, False]


def test_a_line_is_due_again_after_the_interval() -> None:
    """An outage that lasts is logged again."""
    throttle = LogThrottle(0)
    assert [throttle.is_due() for _ in range(3)] == [True, True, True]
