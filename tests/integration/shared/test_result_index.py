"""The result index: the run of each workflow that ended last."""

import asyncio
import random

import pytest

from tailrace_shared.nats.topology import RESULTS
from tailrace_shared.stores.indexes.result_index import Result, ResultIndex


@pytest.fixture
def index(site):
    return ResultIndex(site.jetstream, site.subjects)


def result(sequence, at="2024-01-15T10:30:00.000Z"):
    """Return the result of a run by its last commit."""
    return Result(f"e{sequence}", "completed", sequence, at)


async def test_the_last_result_wins(index):
    """The order of writes does not matter."""
    for sequence in (5, 9, 7):
        await index.put("t", "a", result(sequence))
    await index.put("t", "b", result(6))
    assert await index.of("t", ["a", "b", "c"]) == {"a": result(9), "b": result(6)}
    assert await index.of("u", ["a"]) == {}


async def test_with_concurrent_workers_the_last_result_wins(site):
    """The fence shows each that another has written."""
    indexes = [ResultIndex(site.jetstream, site.subjects) for _ in range(5)]
    sequences = random.Random(1).sample(range(1, 1000), 100)
    await asyncio.gather(
        *(indexes[n % 5].put("t", "a", result(sequence)) for n, sequence in enumerate(sequences))
    )
    assert (await indexes[0].of("t", ["a"]))["a"] == result(max(sequences))


async def test_concurrent_results_are_coalesced(site, index):
    """A thousand runs that end at once do not cost a thousand requests."""
    await asyncio.gather(*(index.put("t", "a", result(sequence)) for sequence in range(1, 1001)))
    assert (await index.of("t", ["a"]))["a"] == result(1000)
    assert await site.taken(f"KV_{site.subjects.stream(RESULTS)}") <= 3


async def test_a_result_of_a_recreated_log_counts(index):
    """Its sequence is lower, and its run has ended much later."""
    await index.put("t", "a", result(1000))
    later = result(3, "2024-01-16T10:30:00.000Z")
    await index.put("t", "a", later)
    assert await index.of("t", ["a"]) == {"a": later}
    await index.put("t", "a", result(1001))
    assert await index.of("t", ["a"]) == {"a": later}


async def test_a_cancelled_caller_does_not_cancel_the_shared_write(index):
    """A cancelled result may be put again."""
    puts = [asyncio.create_task(index.put("t", "a", result(n))) for n in (1, 2)]
    await asyncio.sleep(0)
    puts[0].cancel()
    await asyncio.wait(puts)
    assert (await index.of("t", ["a"]))["a"] == result(2)
