"""The trigger store."""

import time

import pytest

from tailrace_shared.errors import InvalidIdError, TriggerTooLargeError
from tailrace_shared.nats.topology import TRIGGERS
from tailrace_shared.stores.trigger_store import TriggerStore


@pytest.fixture
def store(site):
    return TriggerStore(site.jetstream, site.subjects)


async def since(store, procedure, after, tenant="t"):
    """Return the data of the triggers after a time."""
    return [trigger.data async for trigger in store.since(tenant, procedure, after)]


async def test_a_trigger_has_the_time_of_nats(store):
    """It also has its stream sequence."""
    began = time.time()
    first = await store.publish("t", "order.paid", {"n": 1})
    second = await store.publish("t", "order.paid", None)
    assert (first.procedure, first.data, second.data) == ("order.paid", {"n": 1}, None)
    assert first.sequence < second.sequence
    assert began - 1 < first.time < second.time < time.time() + 1


async def test_triggers_after_a_time_are_read(store):
    """Of one procedure of one tenant, however many are older."""
    for n in range(20):
        await store.publish("t", "paid", n)
    middle = await store.publish("t", "paid", "middle")
    for n in range(20, 40):
        await store.publish("t", "paid", n)
        await store.publish("t", "paid.twice", "other procedure")
        await store.publish("u", "paid", "other tenant")
    assert await since(store, "paid", middle.time) == list(range(20, 40))
    assert await since(store, "paid", -1e9) == [*range(20), "middle", *range(20, 40)]
    assert await since(store, "paid", time.time() + 3600) == []
    assert await since(store, "never", 0.0) == []


async def test_triggers_are_read_in_pages(store):
    for n in range(600):
        await store.publish("t", "paid", n)
    assert await since(store, "paid", 0.0) == list(range(600))


async def test_a_repeated_key_returns_the_first_trigger(site, store):
    """Keys of other tenants and procedures are separate."""
    first = await store.publish("t", "paid", 1, key="k")
    assert await store.publish("t", "paid", 2, key="k") == first
    others = [
        await store.publish("u", "paid", 1, key="k"),
        await store.publish("t", "repaid", 1, key="k"),
        await store.publish("t", "paid", 1, key="l"),
        await store.publish("t", "paid", 1),
    ]
    assert len({first.sequence, *(other.sequence for other in others)}) == 5
    assert await site.count(site.subjects.stream(TRIGGERS)) == 5


async def test_data_beyond_the_limit_is_refused(site, store):
    """Before anything is stored."""
    largest = "x" * (256 * 1024 - 2)
    assert (await store.publish("t", "paid", largest)).data == largest
    with pytest.raises(TriggerTooLargeError, match="262145 bytes of JSON; the limit is 262144"):
        await store.publish("t", "paid", largest + "x")
    assert await site.count(site.subjects.stream(TRIGGERS)) == 1


@pytest.mark.parametrize("procedure", ["", "*", ">", "a.*", "a..b", "a.", "a b", "a" * 129])
async def test_a_procedure_with_a_wildcard_is_refused(store, procedure):
    """It would read other procedures."""
    with pytest.raises(InvalidIdError):
        await store.publish("t", procedure, None)
    with pytest.raises(InvalidIdError):
        await since(store, procedure, 0.0)
