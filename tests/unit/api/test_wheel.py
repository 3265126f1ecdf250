"""The timer wheel meets every deadline once, late by no more than a tick, and never early."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.fanout.runtime.wheel import TimerWheel


@dataclass(eq=False)
class _Entry:
    due: float = 0.0
    slot: int = -1


def _wheel(now: float = 0.0) -> TimerWheel[_Entry]:
    return TimerWheel(now, tick=0.5, slots=8)


@given(
    st.floats(0, 1e6),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 20)), min_size=1, max_size=40),
)
def test_every_deadline_is_met_once_and_in_time(
    began: float, plan: list[tuple[float, float]]
) -> None:
    """Those beyond one turn of the wheel, too, whenever they were set."""
    wheel, now = _wheel(began), began
    waiting: list[_Entry] = []
    for step, delay in plan:
        until = now + step
        while now < until:
            # As the clock does it: once a tick.
            now += 0.5
            due = wheel.advance(now)
            assert all(entry.due <= now < entry.due + 1.001 for entry in due)
            for entry in due:
                waiting.remove(entry)
            assert not [entry for entry in waiting if entry.due < now - 0.501]
        entry = _Entry()
        wheel.schedule(entry, now + delay)
        waiting.append(entry)
        assert len(wheel) == len(waiting)


def test_a_new_deadline_replaces_the_old_one() -> None:
    """Earlier or later."""
    wheel, entry = _wheel(), _Entry()
    wheel.schedule(entry, 3.0)
    wheel.schedule(entry, 1.0)
    assert len(wheel) == 1
    assert wheel.advance(1.5) == [entry]
    assert wheel.advance(10.0) == []
    wheel.schedule(entry, 11.0)
    wheel.schedule(entry, 13.0)
    assert wheel.advance(12.0) == []
    assert wheel.advance(13.5) == [entry]


def test_a_cancelled_deadline_never_comes() -> None:
    """And may be cancelled twice."""
    wheel, entry = _wheel(), _Entry()
    wheel.schedule(entry, 1.0)
    wheel.cancel(entry)
    wheel.cancel(entry)
    assert len(wheel) == 0
    assert wheel.advance(100.0) == []


def test_a_process_that_was_stopped_for_long_catches_up() -> None:
    """What fell due meanwhile is due at once, what did not is not."""
    wheel, soon, later = _wheel(), _Entry(), _Entry()
    wheel.schedule(soon, 2.0)
    wheel.schedule(later, 100_000.0)
    assert wheel.advance(50_000.0) == [soon]
    assert wheel.advance(99_999.0) == []
    assert wheel.advance(100_000.5) == [later]
