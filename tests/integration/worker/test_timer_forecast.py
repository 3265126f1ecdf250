"""The forecast of timers reads some of the due index at a time."""

import pytest

from tailrace_shared.installation import timer_forecast
from tailrace_shared.installation.timer_forecast import TimerForecast
from tailrace_shared.stores.indexes.due_index import DueIndex

NOW = 1_000_000.0


@pytest.fixture
def index(site):
    return DueIndex(site.jetstream, site.subjects)


@pytest.fixture
def count(index):
    """Return a function that counts the timers of the next 30 seconds after some time."""
    forecast = TimerForecast(index)

    async def at(now=NOW):
        newest, _ = await index.edge()
        return await forecast.count(now, 30.0, newest)

    return at


async def test_new_and_removed_timers_are_counted_at_once(index, count):
    """Also a timer that another one of the same execution replaces."""
    assert await count() == 0
    for number, after in enumerate((-10, 10, 20, 31)):
        await index.put("t", f"e{number}", NOW + after)
    assert await count() == 2
    await index.remove("t", "e1")
    await index.put("t", "e2", NOW + 500)
    await index.put("t", "e4", NOW + 5, "request")
    assert await count() == 1
    assert await count(NOW + 6) == 1  # e4 has fired, and e3 has come near
    assert await count(NOW + 490) == 1  # e2


async def test_a_reading_is_limited_and_the_next_one_goes_on(index, count, monkeypatch):
    """A new timer counts at once, even if the first pass over the index has not ended."""
    monkeypatch.setattr(timer_forecast, "_ENTRIES_PER_READING", 4)
    for number in range(10):
        await index.put("t", f"e{number}", NOW + 10)
    assert await count() == 4
    await index.put("t", "new", NOW + 10)
    assert [await count() for _ in range(3)] == [9, 11, 11]


async def test_a_timer_that_was_far_away_is_found_by_a_later_pass(index, count):
    await index.put("t", "e", NOW + 1_000)
    assert await count() == 0
    assert await count(NOW + 500) == 0
    assert await count(NOW + 980) == 1


async def test_a_timer_is_found_by_a_pass_that_takes_long(index, count, monkeypatch):
    """In an index of a million entries a pass takes most of an hour."""
    monkeypatch.setattr(timer_forecast, "_ENTRIES_PER_READING", 2)
    await index.put("t", "far", NOW + 2_900)
    for number in range(9):
        await index.put("t", f"other{number}", NOW - 1)
    # Five readings are a pass, so the first entry is read at 0, 1,000 and 2,000 seconds.
    counts = [await count(NOW + 200 * reading) for reading in range(14)]
    assert set(counts) == {0}
    assert await count(NOW + 2_880) == 1
