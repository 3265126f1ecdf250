"""The forecast of timers reads some of the due index at a time."""

import pytest

from tailrace_shared.installation import timer_forecast
from tailrace_shared.installation.timer_forecast import TimerForecast
from tailrace_shared.nats.topology import DUE
from tailrace_shared.stores.indexes.due_index import DueIndex

NOW = 1_000_000.0


@pytest.fixture
def index(site):
    return DueIndex(site.jetstream, site.subjects)


@pytest.fixture
def count(site, index):
    """Return a function that counts the timers of the next 30 seconds after some time."""
    forecast = TimerForecast(index)

    async def at(now=NOW):
        stream = f"KV_{site.subjects.stream(DUE)}"
        info = await site.jetstream.api(f"STREAM.INFO.{stream}")
        return await forecast.count(now, 30.0, info["state"]["last_seq"])

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
