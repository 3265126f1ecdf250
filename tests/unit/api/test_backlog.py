"""What many hold in common is counted once, and given back when the last of them lets go."""

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.fanout.runtime.slow_client_buffer import SlowClientBuffer


@given(st.lists(st.integers(0, 4), max_size=60))
def test_pieces_are_counted_once(holders: list[int]) -> None:
    """However many hold them, in whatever order they let go."""
    backlog = SlowClientBuffer(max_bytes=10**9)
    pieces = [bytes(100 + number) for number in range(5)]
    for number in holders:
        assert backlog.hold(pieces[number])
    assert backlog.bytes == sum(len(pieces[number]) for number in set(holders))
    for number in reversed(holders):
        backlog.release(pieces[number])
    assert backlog.bytes == 0
    assert not backlog._held


def test_the_limit_is_for_what_is_new() -> None:
    """What is held already costs nothing more."""
    backlog = SlowClientBuffer(max_bytes=150)
    first, second = bytes(100), bytes(101)
    assert backlog.hold(first)
    assert not backlog.hold(second)
    assert backlog.hold(first)
    backlog.release(second)
    assert backlog.bytes == 100
