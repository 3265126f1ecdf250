"""The waiting index: steps that wait for a signal."""

import asyncio

import msgspec
import pytest

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.topology import WAITING
from tailrace_shared.stores.indexes.waiting_index import Waiting, WaitingIndex, if_small


@pytest.fixture
def index(site):
    return WaitingIndex(site.jetstream, site.subjects)


@pytest.fixture
def stream(site):
    """The index's stream."""
    return f"KV_{site.subjects.stream(WAITING)}"


def waiting(execution="e", node="n", *triggers, **fields):
    """Return a wait."""
    wait = Waiting(
        execution, node, "w", "W", "approval", "2026-01-01T00:00:00.000Z", triggers=list(triggers)
    )
    return msgspec.structs.replace(wait, **fields)


async def waits_for(index, tenant, procedure):
    """Return the waits that a trigger of a procedure may resolve."""
    return await index.get(tenant, await index.pointers(tenant, procedure))


async def of_procedure(index, tenant, procedure):
    """Return the executions and nodes that wait for a procedure."""
    found = await waits_for(index, tenant, procedure)
    return sorted((each.execution_id, each.node_id) for each in found)


async def test_a_wait_is_found_by_execution_and_by_each_of_its_procedures(index):
    """Only by its own tenant."""
    wait = waiting("e", "n", "paid", "order.paid", match="event.x", form={"type": "object"})
    await index.put("t", wait)
    assert await index.of_execution("t", "e") == [wait]
    for procedure in ("paid", "order.paid"):
        assert await waits_for(index, "t", procedure) == [wait]
        assert await of_procedure(index, "u", procedure) == []
    assert await of_procedure(index, "t", "order") == []
    assert await index.of_execution("u", "e") == []


async def test_an_identical_wait_is_not_written_again(site, index, stream):
    """A wait is put whenever its execution is parked; only changes are written."""
    await index.put("t", waiting("e", "n", "a", "b"))
    before = await site.taken(stream)
    for _ in range(5):
        await index.put("t", waiting("e", "n", "a", "b"))
    assert await site.taken(stream) == before
    await index.put("t", waiting("e", "n", "a", "b", reason="other"))
    assert [each.reason for each in await index.of_execution("t", "e")] == ["other"]


async def test_a_removed_wait_leaves_nothing_behind(site, index, stream):
    """No marker either; removal is idempotent."""
    for n in range(20):
        await index.put("t", waiting("e", f"n{n}", "a", "b"))
    for n in range(20):
        await index.remove("t", waiting("e", f"n{n}", "a", "b"))
        await index.remove("t", waiting("e", f"n{n}", "a", "b"))
    assert await site.count(stream) == 0


async def test_a_pointer_without_its_entry_is_ignored(site, index):
    """A crash between the two writes leaves it; putting the wait again completes it."""
    await Bucket(site.jetstream, site.subjects.stream(WAITING)).put("t.paid.e.n", b"")
    assert await of_procedure(index, "t", "paid") == []
    await index.put("t", waiting("e", "n", "paid"))
    assert await of_procedure(index, "t", "paid") == [("e", "n")]


async def test_any_number_may_wait_for_one_procedure(index):
    """More than fit into one request."""
    await asyncio.gather(*(index.put("t", waiting(f"e{n}", "n", "paid")) for n in range(1300)))
    assert len(await of_procedure(index, "t", "paid")) == 1300


async def pages(index, limit, cursor=None):
    """Return the waits on all pages, in order."""
    seen = []
    while True:
        page = await index.page("t", limit=limit, cursor=cursor)
        assert len(page.waiting) <= limit
        seen += [(each.execution_id, each.node_id) for each in page.waiting]
        if (cursor := page.cursor) is None:
            return seen


@pytest.mark.parametrize("limit", [1, 5, 24, 25])
async def test_pages_follow_each_other_newest_wait_first(index, limit):
    """Also of a tenant whose waits lie behind many of another."""
    executions = [new_execution_id() for _ in range(12)]
    for execution in executions:
        await index.put("t", waiting(execution, "a", "paid"))
        await index.put("t", waiting(execution, "b", "paid"))
    wanted = [(execution, node) for execution in reversed(executions) for node in "ba"]
    assert await pages(index, limit) == wanted
    for number in range(150):
        await index.put("u", waiting(f"e{number}", "a", "paid", "sent"))
    assert await pages(index, limit) == wanted


async def test_a_cursor_of_an_older_version_continues(index):
    """It is a wait; if that has ended, the list must be read again."""
    for node in "abc":
        await index.put("t", waiting("e", node))
    assert await pages(index, 5, cursor="e.b") == [("e", "a")]
    for cursor in ("e.x", "e", "w"):
        with pytest.raises(InvalidIdError, match="begin again"):
            await index.page("t", limit=5, cursor=cursor)


@pytest.mark.parametrize("text", ["", "*", ">", "a b", ".a", "a..b", "a" * 129])
async def test_an_id_with_a_wildcard_is_refused(index, text):
    """It would read other tenants' waits."""
    with pytest.raises(InvalidIdError):
        await of_procedure(index, "t", text)
    with pytest.raises(InvalidIdError):
        await index.of_execution("t", text)
    with pytest.raises(InvalidIdError):
        await index.put("t", waiting("e", "n", text))


def test_only_small_values_are_indexed():
    """Sixteen KiB as JSON."""
    assert if_small({"a": 1}) == {"a": 1}
    large = "x" * (16 * 1024 - 1)
    assert len(msgspec.json.encode(large)) > 16 * 1024
    assert if_small(large) is None
