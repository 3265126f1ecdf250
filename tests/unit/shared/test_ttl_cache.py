"""The cache with a weight limit and a time to live."""

import pytest

from tailrace_shared.caching.ttl_cache import TtlCache

A, B, C = ("t", "a"), ("t", "b"), ("t", "c")


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def timers():
    """The pending timers: seconds and callback."""
    return []


@pytest.fixture
def cache(clock, timers):
    """A cache for a weight of ten and for a minute."""
    return TtlCache(10, 60, call_later=lambda *timer: timers.append(timer), clock=clock)


def test_popping_removes_an_entry(cache):
    cache.put(A, "value", 5)
    assert cache.pop(A) == "value"
    assert cache.pop(A) is None


def test_a_replaced_entry_is_weighed_once(cache):
    for value in "abc":
        cache.put(A, value, 6)
    cache.put(B, "other", 4)
    assert cache.weight == 10
    assert (cache.pop(A), cache.pop(B)) == ("c", "other")


def test_the_oldest_entries_are_evicted_beyond_the_limit(cache):
    for key in (A, B, C):
        cache.put(key, key, 5)
    assert (cache.pop(A), cache.pop(B), cache.pop(C)) == (None, B, C)


def test_a_read_entry_is_evicted_after_the_others(cache):
    cache.put(A, "a", 5)
    cache.put(B, "b", 5)
    assert cache.get(A) == "a"
    cache.put(C, "c", 5)
    assert (cache.get(A), cache.get(B)) == ("a", None)


def test_the_newest_entry_stays_even_beyond_the_limit(cache):
    cache.put(A, "small", 1)
    cache.put(B, "large", 1000)
    assert (cache.pop(A), cache.pop(B)) == (None, "large")


def test_entries_expire_when_the_cache_is_used(cache, clock):
    cache.put(A, "old", 1)
    clock.now = 30
    cache.put(B, "newer", 1)
    clock.now = 60
    assert cache.get(A) is None
    assert cache.pop(C) is None
    assert len(cache) == 1
    assert cache.pop(B) == "newer"


def test_an_entry_may_have_a_ttl_of_its_own(cache, clock):
    cache.put(A, "short", 1, ttl_s=1)
    clock.now = 1
    assert cache.get(A) is None


def test_without_a_ttl_entries_never_expire(clock):
    cache: TtlCache[tuple[str, str], str] = TtlCache(10, clock=clock)
    cache.put(A, "value")
    clock.now = 1e9
    assert cache.get(A) == "value"


def test_a_timer_evicts_what_is_not_used(cache, clock, timers):
    """One timer is set at a time, and none for an empty cache."""
    cache.put(A, "old", 1)
    clock.now = 30
    cache.put(B, "newer", 1)
    for left in (1, 0):
        clock.now += 60
        ((seconds, fire),) = timers
        timers.clear()
        assert seconds == 60
        if left:
            cache.put(C, "newest", 1)
        fire()
        assert len(cache) == left
    assert timers == []
