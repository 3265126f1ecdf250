"""The due index: deadlines by which executions must be driven."""

import time

import pytest

from tailrace_shared.errors import IllegalCommandError, InvalidIdError, UnavailableError
from tailrace_shared.nats.topology import DUE
from tailrace_shared.stores.indexes.due_index import DueIndex


@pytest.fixture
def index(site):
    return DueIndex(site.jetstream, site.subjects)


async def entries(index):
    """Return all entries as (tenant, execution, by)."""
    return [(due.tenant, due.execution, due.by) async for due in index.entries()]


async def test_entries_are_read_oldest_first(index):
    """Only the newest of each execution, with the time of NATS."""
    began = time.time()
    await index.put("t", "a", 1.0)
    await index.put("u", "a", 2.5)
    await index.put("t", "a", 3.0)
    assert await entries(index) == [("u", "a", 2.5), ("t", "a", 3.0)]
    async for due in index.entries():
        assert began - 1 < due.written_at < time.time() + 1


async def test_a_removed_entry_leaves_nothing_behind(site, index):
    """Removal is idempotent."""
    for n in range(300):
        await index.put("t", f"e{n}", float(n))
    assert len(await entries(index)) == 300
    for n in range(300):
        await index.remove("t", f"e{n}")
        await index.remove("t", f"e{n}")
    assert await entries(index) == []
    assert await site.count(f"KV_{site.subjects.stream(DUE)}") == 0


async def test_a_removal_keeps_a_newer_entry(index):
    await index.put("t", "a", 1.0)
    (seen,) = [due async for due in index.entries()]
    await index.put("t", "a", 2.0)
    await index.remove("t", "a", seen.revision)
    assert await entries(index) == [("t", "a", 2.0)]
    (seen,) = [due async for due in index.entries()]
    await index.remove("t", "a", seen.revision)
    assert await entries(index) == []


async def test_an_id_with_a_wildcard_is_refused(index):
    """It would remove entries of others."""
    with pytest.raises(InvalidIdError):
        await index.remove("t", ">")


async def test_a_request_has_an_entry_of_its_own(index):
    """A worker that drives the execution meanwhile and parks it does not remove that entry."""
    async with index.watched_request("t", "a"):
        await index.put("t", "a", 9.0)
        await index.remove("t", "a")
        ((tenant, execution, by),) = await entries(index)
        assert (tenant, execution) == ("t", "a")
        assert by <= time.time()
    assert await entries(index) == []


async def test_a_request_that_may_have_been_accepted_keeps_its_entry(index):
    """A refused request does not."""
    with pytest.raises(IllegalCommandError):
        async with index.watched_request("t", "a"):
            raise IllegalCommandError("it has ended")
    assert await entries(index) == []
    with pytest.raises(UnavailableError):
        async with index.watched_request("t", "a"):
            raise UnavailableError("NATS did not answer")
    assert [(tenant, execution) for tenant, execution, _by in await entries(index)] == [("t", "a")]
