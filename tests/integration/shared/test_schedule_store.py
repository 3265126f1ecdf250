"""The schedule store: patterns, pages and tenants."""

from typing import Any

import pytest

from tailrace_shared.errors import InvalidScheduleError, ScheduleNotFoundError
from tailrace_shared.recurrence import NAMES, parse_recurrence
from tailrace_shared.stores.schedule_store import Schedule, ScheduleStore

pytestmark = pytest.mark.one_node(
    "a schedule is one message, which JetStream checks and its leader returns"
)

FAR = "0 0 0 1 1 *"


def schedule(schedule_id: str, cron: str = FAR, **fields) -> Schedule:
    """Return a schedule that does not fire while the tests run."""
    return Schedule(
        **{
            "id": schedule_id,
            "workflow_id": "flow",
            "cron": cron,
            "time_zone": None,
            "input": {"a": [1, "é"]},
            "created_at": 1_700_000_000.5,
            **fields,
        }
    )


@pytest.fixture
def store(site: Any) -> ScheduleStore:
    """The store of an installation of its own."""
    return ScheduleStore(site.jetstream, site.subjects)


async def test_a_schedule_is_read_back_unchanged(store: ScheduleStore) -> None:
    put = schedule("a", time_zone="UTC")  # NATS in a container may know no other
    await store.put("t", put)
    assert await store.get("t", "a") == put
    replaced = schedule("a", "@hourly", input=None)
    await store.put("t", replaced)
    assert await store.get("t", "a") == replaced
    assert (await store.page("t", limit=10)).schedules == [replaced]


async def test_a_deleted_schedule_is_not_found(store: ScheduleStore) -> None:
    """Deleting it again, or one that never existed, raises."""
    await store.put("t", schedule("a"))
    await store.delete("t", "a")
    assert not await store.exists("t", "a")
    for missing in ("a", "b"):
        with pytest.raises(ScheduleNotFoundError):
            await store.delete("t", missing)
        with pytest.raises(ScheduleNotFoundError):
            await store.get("t", missing)


async def test_tenants_do_not_see_each_others_schedules(store: ScheduleStore) -> None:
    """They cannot delete them either."""
    await store.put("t", schedule("a"))
    await store.put("t-2", schedule("b"))
    assert [found.id for found in (await store.page("t", limit=10)).schedules] == ["a"]
    with pytest.raises(ScheduleNotFoundError):
        await store.delete("t", "b")
    assert await store.exists("t-2", "b")


async def test_schedules_are_listed_by_id_in_pages(store: ScheduleStore) -> None:
    """Schedules were created in another order, and others are created meanwhile."""
    names = [f"s{number:02}" for number in range(25)]
    for name in reversed(names):
        await store.put("t", schedule(name))
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.page("t", limit=12, cursor=cursor)
        found += [each.id for each in page.schedules]
        if (cursor := page.cursor) is None:
            break
        await store.put("t", schedule("s00"))
    assert found == names


async def test_pages_of_large_inputs_are_short(store: ScheduleStore) -> None:
    """A page is bounded in bytes, too."""
    for number in range(30):
        await store.put("t", schedule(f"s{number:02}", input="x" * 250_000))
    first = await store.page("t", limit=200)
    rest = await store.page("t", limit=200, cursor=first.cursor)
    assert len(first.schedules) == 10
    assert first.cursor == "s09"
    assert rest.schedules[0].id == "s10"


@pytest.mark.parametrize(
    "pattern",
    [*NAMES, "@every 1s", "@every 500ms500ms", "@every 876000h", "* * * * * *", "*/59 * * * * *",
     "? 0-59/2 1,2,3 1-31 JAN-DEC Sun-sat", "5/20 00 09 ? * 1", "0 0 0 29 2 *", "0 0 0 31 4 FRI",
     "0 0 0 31 1,4 *", "*,5 * * * * *"],
)  # fmt: skip
async def test_nats_accepts_every_valid_pattern(store: ScheduleStore, pattern: str) -> None:
    """No pattern that passed validation is refused when it is stored."""
    parse_recurrence(pattern)
    await store.put("t", schedule("a", pattern))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "never"}, "cron"),
        ({"cron": "0 0 0 30 2 *"}, "cron"),
        ({"cron": "@every 1s", "time_zone": "UTC"}, "cron"),
        ({"time_zone": "Nowhere/Land"}, "time_zone"),
    ],
)
async def test_a_refusal_of_nats_names_the_field(
    store: ScheduleStore, fields: dict[str, str], field: str
) -> None:
    """The schedule is not stored."""
    with pytest.raises(InvalidScheduleError) as caught:
        await store.put("t", schedule("a", **fields))
    assert caught.value.field == field
    assert not await store.exists("t", "a")
