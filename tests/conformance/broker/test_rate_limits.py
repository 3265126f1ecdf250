"""Rate limiters and barriers keep their limits on any backend, across many threads."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from dramatiq import RateLimitExceeded
from dramatiq.rate_limits import (
    Barrier,
    BucketRateLimiter,
    ConcurrentRateLimiter,
    RateLimiterBackend,
    WindowRateLimiter,
)


@pytest.fixture
def key() -> str:
    """A unique key."""
    return f"key {uuid4()}"


def test_add_sets_a_key_once(rate_limiter_backend: RateLimiterBackend, key: str) -> None:
    """Only the first ``add`` of a key succeeds."""
    assert rate_limiter_backend.add(key, 1, 60_000)
    assert not rate_limiter_backend.add(key, 1, 60_000)


def test_keys_expire(rate_limiter_backend: RateLimiterBackend, key: str) -> None:
    """A key can be added again only after it has expired."""
    before = time.monotonic()
    assert rate_limiter_backend.add(key, 1, 150)
    while not rate_limiter_backend.add(key, 1, 150):
        pass
    assert time.monotonic() - before > 0.145


def test_incr_stops_at_the_maximum(rate_limiter_backend: RateLimiterBackend, key: str) -> None:
    """An increment past the maximum changes nothing."""
    assert rate_limiter_backend.incr(key, 2, 3, 60_000)
    assert not rate_limiter_backend.incr(key, 2, 3, 60_000)
    assert rate_limiter_backend.incr(key, 1, 3, 60_000)


def test_decr_stops_at_the_minimum(rate_limiter_backend: RateLimiterBackend, key: str) -> None:
    """A decrement past the minimum changes nothing."""
    rate_limiter_backend.add(key, 3, 60_000)
    assert rate_limiter_backend.decr(key, 2, 0, 60_000)
    assert not rate_limiter_backend.decr(key, 2, 0, 60_000)
    assert rate_limiter_backend.decr(key, 1, 0, 60_000)


def test_concurrent_increments_are_never_lost(
    rate_limiter_backend: RateLimiterBackend, key: str
) -> None:
    """Of many concurrent increments, exactly as many succeed as the maximum allows."""
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda _: rate_limiter_backend.incr(key, 1, 20, 60_000), range(40)))
    assert sum(done) == 20


def test_concurrent_rate_limiters_limit_concurrency(
    rate_limiter_backend: RateLimiterBackend, key: str
) -> None:
    """At most ``limit`` threads hold the limiter, and a released slot can be taken again."""
    mutex = ConcurrentRateLimiter(rate_limiter_backend, key, limit=1)
    with mutex.acquire(raise_on_failure=False) as first:
        assert first
        with mutex.acquire(raise_on_failure=False) as second:
            assert not second
        with pytest.raises(RateLimitExceeded), mutex.acquire():
            pass
    with mutex.acquire() as third:
        assert third


def by_bucket(backend: RateLimiterBackend, key: str) -> BucketRateLimiter:
    """Return a limiter whose current bucket lasts longer than the test."""
    now, hours = int(time.time() * 1000), range(3_600_000, 7_200_000, 60_000)
    bucket = min(hours, key=lambda size: abs(now % size / size - 0.5))
    return BucketRateLimiter(backend, key, limit=5, bucket=bucket)


def by_window(backend: RateLimiterBackend, key: str) -> WindowRateLimiter:
    """Return a limiter whose window is longer than the test."""
    return WindowRateLimiter(backend, key, limit=5, window=100)


@pytest.mark.parametrize("limiter_of", [by_bucket, by_window])
def test_limiters_limit_operations_within_a_time(
    rate_limiter_backend: RateLimiterBackend,
    key: str,
    limiter_of: Callable[[RateLimiterBackend, str], BucketRateLimiter | WindowRateLimiter],
) -> None:
    """Of many attempts within the time, exactly as many succeed as the limit allows."""
    acquire: Callable[[], bool] = limiter_of(rate_limiter_backend, key)._acquire
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: acquire(), range(20)))
    assert sum(done) == 5


def test_barriers_block(rate_limiter_backend: RateLimiterBackend, key: str) -> None:
    """Early parties wait for the last one."""
    barrier = Barrier(rate_limiter_backend, key, ttl=60_000)
    assert barrier.create(parties=2)
    assert not barrier.create(parties=10)
    passed: list[bool] = []
    early = threading.Thread(target=lambda: passed.append(barrier.wait(timeout=60_000)))
    early.start()
    early.join(0.2)
    assert early.is_alive()
    assert barrier.wait(timeout=60_000)
    early.join(60)
    assert passed == [True]


def test_barriers_can_be_checked_without_blocking(
    rate_limiter_backend: RateLimiterBackend, key: str
) -> None:
    """Only the last party gets True."""
    barrier = Barrier(rate_limiter_backend, key, ttl=60_000)
    assert barrier.create(parties=2)
    assert not barrier.wait(block=False)
    assert barrier.wait(block=False)


def test_waiting_at_a_barrier_can_time_out(
    rate_limiter_backend: RateLimiterBackend, key: str
) -> None:
    """If no other party arrives, waiting ends with the timeout."""
    barrier = Barrier(rate_limiter_backend, key, ttl=60_000)
    assert barrier.create(parties=2)
    assert not barrier.wait(timeout=200)
