"""Many keys of a bucket are read with a few messages, also those that a replica may lack."""

import asyncio

from harness.fakes.memory_nats import MemoryNats
from tailrace_shared.nats.bucket import Bucket

# The state of the leader, a key that has a message, and two pages of keys.
_MESSAGES = 4


async def test_missing_keys_cost_no_message_each() -> None:
    """Deleted ones are missing, too."""
    nats = MemoryNats()
    bucket = Bucket(nats, "b")
    for key in ("t.kept", "t.deleted", "t.unasked"):
        await bucket.put(key, b"1")
    await bucket.delete("t.deleted")
    before = nats.reads
    asked = ["t.kept", "t.deleted", *(f"t.missing{each}" for each in range(1500))]
    assert [entry.key for entry in await bucket.get_many_newest(asked)] == ["t.kept"]
    assert nats.reads - before == _MESSAGES


async def test_a_replica_that_lags_is_not_believed() -> None:
    """Neither if it lacks one of the keys, nor if it lacks all."""
    for others in (0, 5):
        nats = MemoryNats()
        bucket = Bucket(nats, "b")
        for each in range(others):
            await bucket.put(f"t.old{each}", b"1")
        await bucket.put("t.new", b"1")
        lags = iter([1, 1, 0])
        nats.lag = lambda lags=lags: next(lags, 0)  # type: ignore[misc]
        assert [entry.key for entry in await bucket.get_many_newest(["t.new"])] == ["t.new"]


async def test_an_empty_bucket_has_no_keys() -> None:
    """There is no message that shows how far a replica is."""
    bucket = Bucket(MemoryNats(), "b")
    async with asyncio.timeout(2):
        assert await bucket.get_many_newest(["t.a"]) == []
