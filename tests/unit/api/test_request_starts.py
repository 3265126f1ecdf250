"""Requests are started a few in an iteration of the event loop, in turn for each caller."""

import asyncio
import functools
from typing import Final

from tailrace_api.http.request_starts import RequestStarts

_AT_ONCE: Final = 4


def _of(caller: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"h"), (b"x-organization-id", caller.encode())]


async def test_a_few_requests_start_at_once_and_the_others_in_the_next_iterations() -> None:
    """In their order; afterwards requests start at once again."""
    starts, started = RequestStarts(), list[int]()
    for number in range(10):
        starts.add(_of("a"), lambda number=number: started.append(number))  # type: ignore[misc]
    assert started == [0, 1, 2, 3]
    assert len(starts) == 6
    await asyncio.sleep(0)
    assert started == list(range(8))
    await asyncio.sleep(0)
    assert (started, len(starts)) == (list(range(10)), 0)
    await asyncio.sleep(0)
    starts.add(_of("a"), lambda: started.append(10))
    assert started[-1] == 10


async def test_a_caller_does_not_wait_for_all_requests_of_another() -> None:
    """One request of each caller at a time."""
    starts, started = RequestStarts(), list[str]()
    for number in range(100):
        starts.add(_of("crowd"), lambda number=number: started.append(f"crowd {number}"))  # type: ignore[misc]
    starts.add(_of("other"), lambda: started.append("other"))
    await asyncio.sleep(0)
    assert "other" in started[_AT_ONCE : 2 * _AT_ONCE]
    for _ in range(100):
        await asyncio.sleep(0)
    started.remove("other")
    assert started == [f"crowd {number}" for number in range(100)]


async def test_few_requests_start_while_connections_are_accepted() -> None:
    """One in eight iterations; the rest once the queue of connections is empty."""
    starts, started = RequestStarts(), list[int]()
    for number in range(80):
        starts.note_connection()
        starts.add([], functools.partial(started.append, number))
        await asyncio.sleep(0)
    assert 8 <= len(started) <= 20
    for _ in range(80):
        await asyncio.sleep(0)
    assert started == [*range(80)]
