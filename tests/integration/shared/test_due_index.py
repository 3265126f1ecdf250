"""The due index: by when executions must be driven."""

import time

import pytest

from tailrace_shared.errors import IllegalCommandError, InvalidIdError, UnavailableError
from tailrace_shared.nats.topology import DUE
from tailrace_shared.stores.indexes.due_index import DueIndex


@pytest.fixture
def index(site):
    """An index as a service has it."""
    return DueIndex(site.jetstream, site.subjects)


async def entries(index):
    """Return all entries as (tenant, execution, by)."""
    return [(due.tenant, due.execution, due.by) async for due in index.entries()]


async def test_entries_are_read_in_the_order_in_which_they_were_written(index):
    """The newest of each execution alone, with the time of NATS."""
    began = time.time()
    await index.put("t", "a", 1.0)
    await index.put("u", "a", 2.5)
    await index.put("t", "a", 3.0)
    assert await entries(index) == [("u", "a", 2.5), ("t", "a", 3.0)]
    async for due in index.entries():
        assert began - 1 < due.written_at < time.time() + 1


async def test_what_is_removed_leaves_nothing_behind(site, index):
    """Removing twice is removing once."""
    for n in range(300):
        await index.put("t", f"e{n}", float(n))
    assert len(await entries(index)) == 300
    for n in range(300):
        await index.remove("t", f"e{n}")
        await index.remove("t", f"e{n}")
    assert await entries(index) == []
    assert await site.count(f"KV_{site.subjects.stream(DUE)}") == 0


async def test_only_what_was_seen_is_removed(index):
    """An entry that was written again meanwhile stays."""
    await index.put("t", "a", 1.0)
    (seen,) = [due async for due in index.entries()]
    await index.put("t", "a", 2.0)
    await index.remove("t", "a", seen.revision)
    assert await entries(index) == [("t", "a", 2.0)]
    (seen,) = [due async for due in index.entries()]
    await index.remove("t", "a", seen.revision)
    assert await entries(index) == []


async def test_no_id_reaches_beyond_its_entry(index):
    """A wildcard would remove those of others."""
    with pytest.raises(InvalidIdError):
        await index.remove("t", ">")


async def test_what_is_asked_has_an_entry_of_its_own(index):
    """Whoever drives the execution meanwhile, and parks it, does not strike it out."""
    async with index.watched_request("t", "a"):
        await index.put("t", "a", 9.0)
        await index.remove("t", "a")
        ((tenant, execution, by),) = await entries(index)
        assert (tenant, execution) == ("t", "a")
        assert by <= time.time()
    assert await entries(index) == []


async def test_what_may_have_been_accepted_is_looked_after(index):
    """What was refused is not."""
    with pytest.raises(IllegalCommandError):
        async with index.watched_request("t", "a"):
            raise IllegalCommandError("it has ended")
    assert await entries(index) == []
    with pytest.raises(UnavailableError):
        async with index.watched_request("t", "a"):
            raise UnavailableError("NATS did not answer")
    assert [(tenant, execution) for tenant, execution, _by in await entries(index)] == [("t", "a")]
