"""What is put aside for a while."""

import pytest

from tailrace_worker.engine.tasks.ttl_cache import TtlCache

A, B, C = ("t", "a"), ("t", "b"), ("t", "c")


class Time:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        """Tell the time."""
        return self.now


@pytest.fixture
def clock():
    """It is zero o'clock."""
    return Time()


@pytest.fixture
def alarms():
    """What is to be called, and after how many seconds."""
    return []


@pytest.fixture
def shelf(clock, alarms):
    """A shelf for ten bytes, and for a minute."""
    return TtlCache(lambda *alarm: alarms.append(alarm), 10, 60, clock)


def test_what_is_taken_is_on_it_no_more(shelf):
    """So that nobody else changes what somebody uses."""
    shelf.put(A, "thing", 5)
    assert shelf.take(A) == "thing"
    assert shelf.take(A) is None


def test_a_thing_takes_the_place_of_an_older_one(shelf):
    """It is counted once."""
    for thing in "abc":
        shelf.put(A, thing, 6)
    shelf.put(B, "other", 4)
    assert (shelf.take(A), shelf.take(B)) == ("c", "other")


def test_when_there_is_too_much_the_oldest_goes(shelf):
    """As many as it takes."""
    for key in (A, B, C):
        shelf.put(key, key, 5)
    assert (shelf.take(A), shelf.take(B), shelf.take(C)) == (None, B, C)


def test_the_newest_stays_however_large_it_is(shelf):
    """It was in memory until now."""
    shelf.put(A, "small", 1)
    shelf.put(B, "large", 1000)
    assert (shelf.take(A), shelf.take(B)) == (None, "large")


def test_nothing_is_kept_for_longer_than_was_said(shelf, clock):
    """Once anybody asks for anything it is gone."""
    shelf.put(A, "old", 1)
    clock.now = 30
    shelf.put(B, "newer", 1)
    clock.now = 60
    assert shelf.take(C) is None
    assert len(shelf) == 1
    assert shelf.take(B) == "newer"


def test_what_nobody_asks_for_goes_all_the_same(shelf, clock, alarms):
    """One alarm is set at a time, and none where there is nothing."""
    shelf.put(A, "old", 1)
    clock.now = 30
    shelf.put(B, "newer", 1)
    for left in (1, 0):
        clock.now += 60
        ((after, look),) = alarms
        alarms.clear()
        assert after == 60
        if left:
            shelf.put(C, "newest", 1)
        look()
        assert len(shelf) == left
    assert alarms == []
