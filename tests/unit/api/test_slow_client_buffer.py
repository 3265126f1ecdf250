"""Bytes that several slow clients share count once, until the last one releases them."""

from hypothesis import given
from hypothesis import strategies as st

from tailrace_api.fanout.runtime.slow_client_buffer import SlowClientBuffer


@given(st.lists(st.integers(0, 4), max_size=60))
def test_pieces_are_counted_once(holders: list[int]) -> None:
    """For any number of holders, and any order of release."""
    backlog = SlowClientBuffer(max_bytes=10**9)
    pieces = [bytes(100 + number) for number in range(5)]
    for number in holders:
        assert backlog.hold(pieces[number])
    assert backlog.bytes == sum(len(pieces[number]) for number in set(holders))
    for number in reversed(holders):
        backlog.release(pieces[number])
    assert backlog.bytes == 0
    assert not backlog._held


def test_the_limit_applies_to_new_pieces() -> None:
    """Holding a piece again costs no memory."""
    backlog = SlowClientBuffer(max_bytes=150)
    first, second = bytes(100), bytes(101)
    assert backlog.hold(first)
    assert not backlog.hold(second)
    assert backlog.hold(first)
    backlog.release(second)
    assert backlog.bytes == 100
