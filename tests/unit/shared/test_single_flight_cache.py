"""Single-flight calls, and the cache that is filled by them."""

import asyncio

import pytest

from tailrace_shared.caching.single_flight import SingleFlight
from tailrace_shared.caching.single_flight_cache import SingleFlightCache


class Source:
    """Returns how often it was called."""

    def __init__(self) -> None:
        self.calls = 0
        self.fails = False

    async def read(self) -> int:
        self.calls += 1
        await asyncio.sleep(0)
        if self.fails:
            raise ValueError
        return self.calls


async def test_concurrent_calls_for_a_key_share_one_task() -> None:
    source, flights = Source(), SingleFlight[str, int]()
    assert await asyncio.gather(*(flights.run("a", source.read) for _ in range(5))) == [1] * 5
    assert await flights.run("a", source.read) == 2


async def test_concurrent_and_later_callers_get_the_cached_result() -> None:
    source, cache = Source(), SingleFlightCache[str, int](60.0)
    assert await asyncio.gather(*(cache.get("a", source.read) for _ in range(5))) == [1] * 5
    assert await cache.get("a", source.read) == 1
    assert await cache.get("b", source.read) == 2


async def test_an_expired_result_is_read_again() -> None:
    source, cache = Source(), SingleFlightCache[str, int](-1.0)
    assert [await cache.get("a", source.read) for _ in range(3)] == [1, 2, 3]


async def test_a_failure_is_not_cached() -> None:
    source, cache = Source(), SingleFlightCache[str, int](60.0)
    source.fails = True
    with pytest.raises(ValueError, match=r"^$"):
        await cache.get("a", source.read)
    source.fails = False
    assert await cache.get("a", source.read) == 2


async def test_a_cancelled_caller_does_not_cancel_the_call() -> None:
    source, cache = Source(), SingleFlightCache[str, int](60.0)
    first = asyncio.create_task(cache.get("a", source.read))
    second = asyncio.create_task(cache.get("a", source.read))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1


async def test_the_least_recently_used_result_is_evicted() -> None:
    source, cache = Source(), SingleFlightCache[str, int](60.0, max_entries=2)
    for key in "abc":
        await cache.get(key, source.read)
    assert await cache.get("c", source.read) == 3
    assert await cache.get("a", source.read) == 4
