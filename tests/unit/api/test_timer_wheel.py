"""The timer wheel fires every deadline once, at most one tick late and never early."""

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.fanout.runtime.wheel import TimerWheel, WheelEntry


def _wheel(now: float = 0.0) -> TimerWheel:
    return TimerWheel(now, tick=0.5, slots=8)


@given(
    st.floats(0, 1e6),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), min_size=1, max_size=40),
)
def test_every_deadline_fires_once_and_in_time(
    start: float, plan: list[tuple[float, float]]
) -> None:
    """Also deadlines beyond one revolution of the wheel, whenever they were set."""
    wheel, now = _wheel(start), start
    waiting: list[WheelEntry] = []
    for step, delay in plan:
        until = now + step
        while now < until:
            # Once per tick, like the real clock.
            now += 0.5
            due = wheel.advance(now)
            assert all(entry.due <= now < entry.due + 1.001 for entry in due)
            for entry in due:
                waiting.remove(entry)
            assert not [entry for entry in waiting if entry.due < now - 0.501]
        entry = WheelEntry()
        wheel.schedule(entry, now + delay)
        waiting.append(entry)
        assert len(wheel) == len(waiting)


def test_a_new_deadline_replaces_the_old_one() -> None:
    """An earlier one as well as a later one."""
    wheel, entry = _wheel(), WheelEntry()
    wheel.schedule(entry, 3.0)
    wheel.schedule(entry, 1.0)
    assert len(wheel) == 1
    assert wheel.advance(1.5) == [entry]
    assert wheel.advance(10.0) == []
    wheel.schedule(entry, 11.0)
    wheel.schedule(entry, 13.0)
    assert wheel.advance(12.0) == []
    assert wheel.advance(13.5) == [entry]


def test_a_cancelled_deadline_never_fires() -> None:
    """Cancelling it twice is allowed."""
    wheel, entry = _wheel(), WheelEntry()
    wheel.schedule(entry, 1.0)
    wheel.cancel(entry)
    wheel.cancel(entry)
    assert len(wheel) == 0
    assert wheel.advance(100.0) == []


def test_a_process_that_was_suspended_catches_up() -> None:
    """Deadlines that passed meanwhile fire at once, the others do not."""
    wheel, soon, later = _wheel(), WheelEntry(), WheelEntry()
    wheel.schedule(soon, 2.0)
    wheel.schedule(later, 100_000.0)
    assert wheel.advance(50_000.0) == [soon]
    assert wheel.advance(99_999.0) == []
    assert wheel.advance(100_000.5) == [later]
