"""Pages of runs, newest first."""

import asyncio
import time

import msgspec
import pytest

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.summary import summary_of
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.execution.transitions import ExecutionStatus
from tailrace_shared.ids import creation_time, new_execution_id
from tailrace_shared.nats.bucket import Bucket
from tailrace_shared.nats.topology import RUNS, STARTS, VERSION_KEY
from tailrace_shared.stores import run_list
from tailrace_shared.stores.indexes.start_index import Start
from tailrace_shared.stores.run_query import RunQuery
from tailrace_shared.stores.start_backfill import backfill_starts
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node

NOW = format_timestamp(time.time())


class Pages:
    """A list of runs, and the stores that it is read from."""

    def __init__(self, site):
        self.site = site
        self.stores = Stores.over(site.jetstream, site.subjects)

    async def page(self, tenant, *, limit=50, cursor=None, **query):
        """Return a page of the runs that match a query."""
        page = self.stores.run_list.page
        return await page(tenant, RunQuery(**query), limit=limit, cursor=cursor)

    async def put(self, *, workflow="w", tenant="t", status="running", execution=None, tags=()):
        """Store a run that a worker has begun; return its id."""
        state = ExecutionState(execution or new_execution_id(), workflow, "W", 3, status)
        state.error = "broke" if status == "failed" else None
        state.tags = list(tags)
        if execution is None:
            start = Start(state.execution_id, 3)
            await self.stores.starts.add(tenant, workflow, start)
            for tag in tags:
                await self.stores.starts.add_tag(tenant, workflow, start, tag)
        await self.stores.runs.put(tenant, state)
        return state.execution_id

    async def queue(self):
        """Start a run that no worker has begun; return its id."""
        execution = new_execution_id()
        await self.stores.starts.add("t", "w", Start(execution, 3))
        workflow = StoredWorkflow(Definition("w", {"n": Node("log")}), 3)
        await self.stores.log.create("t", execution, workflow, None)
        await self.stores.live.put("t", "w", execution)
        return execution

    async def all(self, **query):
        """Return the ids on all pages, in order."""
        seen, cursor = [], None
        while True:
            page = await self.page("t", cursor=cursor, **query)
            seen += [run.execution_id for run in page.runs]
            if (cursor := page.cursor) is None:
                return seen


@pytest.fixture
def pages(site):
    return Pages(site)


async def test_runs_of_version_0_2_are_added_to_the_list(pages):
    """It writes no rows, neither at a start nor at a failure."""
    listed = await pages.put()
    ids = [new_execution_id() for _ in range(3)]
    statuses: list[ExecutionStatus] = ["completed", "failed", "running"]
    for execution, status in zip(ids, statuses, strict=True):
        state = ExecutionState(execution, "w", "W", 3, status)
        state.created_at = state.finished_at = NOW
        summary = msgspec.structs.asdict(summary_of(state))
        del summary["parent"]
        bucket = Bucket(pages.site.jetstream, pages.site.subjects.stream(RUNS))
        await bucket.put(f"t.w.{execution}", msgspec.json.encode(summary))
    assert await pages.all() == [listed]
    repair = pages.stores.start_repair
    assert await repair.sweep() == 3
    assert await pages.all() == [*reversed(ids), listed]
    assert await pages.all(status="failed") == [ids[1]]
    # A row that exists is not added again, nor is a summary checked twice.
    assert await repair.sweep() == 0
    await pages.stores.leases.purge("starts.repaired")
    assert await repair.sweep() == 0
    older = [run.is_of_older_version async for run in pages.stores.runs.written_since(1)]
    assert older == [False, True, True, True]


async def test_a_run_that_version_0_2_started_is_added_by_its_first_worker(pages):
    """The header of its first commit is missing."""
    execution = new_execution_id()
    state = ExecutionState(execution, "w", "W", 3, "queued")
    state.created_at = NOW
    repair = pages.stores.start_repair
    for _ in range(2):
        await repair.add("t", summary_of(state))
    await pages.stores.runs.put("t", state)
    assert await pages.all() == [execution]


async def test_a_summary_is_that_of_the_newest_state(pages):
    execution = await pages.put()
    await pages.put(status="failed", execution=execution)
    (run,) = (await pages.page("t")).runs
    assert (run.execution_id, run.workflow_id, run.version) == (execution, "w", 3)
    assert (run.status, run.error) == ("failed", "broke")


async def test_pages_follow_each_other_without_gap_or_overlap(pages):
    """Newest first, even if new runs start meanwhile."""
    runs = [await pages.put() for _ in range(23)]
    seen, cursor = [], None
    while True:
        page = await pages.page("t", limit=5, cursor=cursor)
        assert len(page.runs) <= 5
        seen += [run.execution_id for run in page.runs]
        await pages.put()
        if (cursor := page.cursor) is None:
            break
    assert seen == sorted(runs, reverse=True)


@pytest.mark.parametrize("count", [0, 4, 5, 6])
async def test_a_full_last_page_has_no_cursor(pages, count):
    for _ in range(count):
        await pages.put()
    page = await pages.page("t", limit=5)
    assert (len(page.runs), page.cursor is not None) == (min(count, 5), count > 5)


async def test_runs_are_filtered_by_workflow_and_status(pages):
    """And always by tenant."""
    mine = await pages.put(workflow="a", status="failed")
    await pages.put(workflow="a", status="completed")
    await pages.put(workflow="b", status="failed")
    await pages.put(workflow="a", status="failed", tenant="u")
    page = await pages.page("t", workflow="a", status="failed")
    assert [run.execution_id for run in page.runs] == [mine]
    assert (await pages.page("v")).runs == []
    with pytest.raises(InvalidIdError):
        await pages.page(">")


async def test_a_filter_finds_few_among_many(pages):
    """Across several internal reads."""
    wanted = await pages.put(status="failed")
    await asyncio.gather(*(pages.put() for _ in range(450)))
    page = await pages.page("t", status="failed", limit=1)
    assert [run.execution_id for run in page.runs] == [wanted]


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_runs_that_were_not_completed_are_found_without_reading_others(
    pages, monkeypatch, status
):
    wanted = await pages.put(status=status)
    await pages.put(status="failed" if status == "cancelled" else "cancelled")
    await asyncio.gather(*(pages.put(status="completed") for _ in range(20)))
    monkeypatch.setattr(run_list, "_MAX_READ", 10)
    for workflow in (None, "w"):
        page = await pages.page("t", status=status, workflow=workflow)
        assert ([run.execution_id for run in page.runs], page.cursor) == ([wanted], None)


async def test_runs_with_a_tag_are_found_without_reading_others(pages, monkeypatch):
    """By workflow as well, page by page, and of this tenant only."""
    first = await pages.put(tags=["vip", "eu"])
    second = await pages.put(tags=["vip"], workflow="x", status="failed")
    await pages.put(tags=["vip"], tenant="u")
    for _ in range(20):
        await pages.put(tags=["eu"])
    last = await pages.put(tags=["vip"])
    monkeypatch.setattr(run_list, "_MAX_READ", 10)
    for limit in (1, 2, 3, 50):
        assert await pages.all(tag="vip", limit=limit) == [last, second, first]
    assert await pages.all(tag="vip", workflow="x") == [second]
    assert await pages.all(tag="vip", status="failed") == [second]
    assert await pages.all(tag="none") == []
    (run,) = (await pages.page("t", tag="vip", workflow="x")).runs
    assert run.tags == ["vip"]
    with pytest.raises(InvalidIdError):
        await pages.page("t", tag="*")
    with pytest.raises(InvalidIdError, match="begin again"):
        await pages.page("t", cursor=(await pages.page("t", tag="vip", limit=1)).cursor)


async def test_rows_of_tags_are_rebuilt(site, pages):
    """From the summaries, once, after the index was lost."""
    runs = [await pages.put(execution=new_execution_id(), tags=["vip"]) for _ in range(3)]
    assert await pages.all(tag="vip") == []
    for _ in range(2):
        await backfill_starts(site.jetstream, site.subjects, lambda *_: None)
    assert await pages.all(tag="vip") == runs[::-1]
    assert await site.count(site.subjects.stream(STARTS)) == 2 * len(runs)


async def test_live_runs_are_filtered_by_tag(pages):
    """They are found among the live runs."""
    for tags in (["vip"], ["eu"], []):
        execution = await pages.put(status="paused", tags=tags)
        await pages.stores.live.put("t", "w", execution)
    found = (await pages.page("t", status="paused", tag="vip")).runs
    assert [run.tags for run in found] == [["vip"]]


async def test_runs_are_found_by_a_text_in_their_ids(pages, monkeypatch):
    """Of the run or of its workflow; a whole id is looked up, however old the run is."""
    wanted = await pages.put(workflow="invoices")
    others = [await pages.put() for _ in range(5)]
    assert await pages.all(text="voice", limit=2) == [wanted]
    assert await pages.all(text=wanted[-9:], limit=1) == [wanted]
    assert await pages.all(text="w", limit=2) == sorted(others, reverse=True)
    queued = await pages.queue()
    monkeypatch.setattr(run_list, "_MAX_SCANNED", 0)
    assert await pages.all(text=queued) == [queued]
    assert await pages.all(text=queued, status="failed") == []
    assert await pages.all(text=new_execution_id()) == []


async def test_runs_are_found_by_the_time_of_their_creation(pages, monkeypatch):
    """Rows that were written at another time are not read."""
    monkeypatch.setattr(run_list, "_MAX_CLOCK_SKEW_S", 0.0)
    runs, times = [], []
    for _ in range(9):
        execution = new_execution_id()
        times.append(creation_time(execution) or 0.0)
        start = Start(execution, created_at=format_timestamp(times[-1]))
        await pages.stores.starts.add("t", "w", start)
        runs.append(await pages.put(execution=execution))
        # Until another millisecond than that of the writing; ids count milliseconds.
        written = creation_time(new_execution_id())
        while creation_time(new_execution_id()) == written:
            pass
    newest_first = runs[::-1]
    for limit in (2, 50):
        assert await pages.all(created_after=times[6], limit=limit) == newest_first[:3]
        assert await pages.all(created_before=times[3], limit=limit) == newest_first[6:]
        between = await pages.all(created_after=times[3], created_before=times[6], limit=limit)
        assert between == newest_first[3:6]
    assert await pages.all(created_before=0.0) == []
    read = []
    newest_rows = pages.stores.starts.newest_first

    async def counted(*args):
        async for rows in newest_rows(*args):
            read.extend(rows)
            yield rows

    monkeypatch.setattr(pages.stores.starts, "newest_first", counted)
    assert await pages.all(created_before=times[2], limit=50) == newest_first[7:]
    assert len(read) <= 3


async def test_child_runs_are_found_by_their_parent(site, pages):
    """They are those that its log names, page by page, with the other filters."""
    parent, children = new_execution_id(), [new_execution_id() for _ in range(5)]
    workflow = StoredWorkflow(Definition("p", {"n": Node("workflow")}), 3)
    await pages.stores.log.create("t", parent, workflow, None)
    events: list[ev.Event] = [ev.ExecutionStarted(ev.Started(parent, "running", NOW), NOW)]
    for number, child in enumerate(children):
        await pages.put(execution=child, workflow=f"w{number % 2}")
        state = ExecutionState(child, f"w{number % 2}", "W", 3, "completed")
        state.parent = ev.Parent(parent, f"n{number}")
        await pages.stores.runs.put("t", state)
        begun = ev.StepBegun(f"n{number}", "workflow", "running", 1, NOW)
        wait = ev.StepWait(f"n{number}", "workflow", "waiting", wait="child")
        wait.child_execution_id, wait.child_workflow_id = child, f"w{number % 2}"
        events += [ev.StepStarted(begun, NOW), ev.StepWaiting(wait, NOW)]
    await site.commit(parent, *events)
    await pages.put()
    for limit in (2, 50):
        assert await pages.all(parent=parent, limit=limit) == children[::-1]
    assert await pages.all(parent=parent, workflow="w1") == [children[3], children[1]]
    assert await pages.all(parent=parent, status="failed") == []
    assert await pages.all(parent=new_execution_id()) == []
    assert (await pages.page("v", parent=parent)).runs == []


async def test_pages_of_failed_runs_are_in_the_order_of_their_ends(pages):
    """The rows of a page are in the order of their starts, as in every list."""
    first, second, third = [await pages.put() for _ in range(3)]
    for execution in (third, first, second, second):
        await pages.put(status="failed", execution=execution)
    assert await pages.all(status="failed", limit=2) == [second, first, third]
    assert await pages.all(status="failed") == [third, second, first]


async def test_a_cursor_of_another_list_is_refused(pages):
    for _ in range(3):
        await pages.put(status="failed")
    cursor = (await pages.page("t", limit=1)).cursor
    with pytest.raises(InvalidIdError, match="begin again"):
        await pages.page("t", status="failed", cursor=cursor)


async def test_a_run_that_expires_while_it_is_listed_is_left_out(site, pages):
    """Its key was listed a moment ago."""
    execution = await pages.put()
    bucket = Bucket(site.jetstream, site.subjects.stream(RUNS))
    await bucket.delete(f"t.w.{execution}")
    assert (await pages.page("t")).runs == []


async def test_a_run_that_no_worker_has_begun_is_listed(pages):
    """Without a summary; by its log."""
    execution = await pages.queue()
    for status in (None, "queued"):
        (run,) = (await pages.page("t", status=status)).runs
        assert (run.execution_id, run.status, run.version) == (execution, "queued", 3)
        assert run.created_at


async def test_a_start_that_was_never_completed_is_left_out(pages):
    """And one whose execution has been deleted."""
    await pages.stores.starts.add("t", "w", Start(new_execution_id(), 3))
    execution = await pages.queue()
    assert await pages.all() == [execution]


async def test_a_run_is_listed_once(pages):
    """Even if its start was repeated long after the first."""
    first = await pages.queue()
    second = await pages.put()
    await pages.stores.starts.add("t", "w", Start(first, 4), is_backfilled=True)
    assert await pages.all(limit=5) == [second, first]


async def test_runs_from_before_the_index_follow_all_others(pages):
    old = [new_execution_id() for _ in range(5)]
    new = [await pages.put() for _ in range(5)]
    for execution in old:
        await pages.put(execution=execution)
        await pages.stores.starts.add("t", "w", Start(execution, 3), is_backfilled=True)
    for limit in (2, 5, 7, 50):
        assert await pages.all(limit=limit) == sorted([*old, *new], reverse=True)
        assert await pages.all(limit=limit, workflow="w") == sorted([*old, *new], reverse=True)


async def test_live_runs_are_paged_by_status(pages):
    paused = []
    for number in range(23):
        status = "paused" if number % 2 else "running"
        execution = await pages.put(status=status)
        await pages.stores.live.put("t", "w", execution)
        paused += [execution] if status == "paused" else []
    assert await pages.all(status="paused", limit=4) == sorted(paused, reverse=True)


@pytest.mark.parametrize("status", [None, "paused", "failed"])
async def test_a_cursor_of_an_older_version_is_refused(pages, status):
    """It was an execution id."""
    with pytest.raises(InvalidIdError, match="begin again"):
        await pages.page("t", status=status, cursor=new_execution_id())


async def test_before_version_two_all_keys_are_listed(site, pages):
    """Version 0.2 writes no rows; applying the topology adds them in the order of the ids."""
    old = [new_execution_id() for _ in range(7)]
    for number, execution in enumerate(old):
        await pages.put(execution=execution, workflow=f"w{number % 2}")
    queued = await pages.queue()
    between = new_execution_id()
    await pages.put(execution=between)
    newest = await pages.put()
    wanted = [newest, between, queued, *reversed(old)]
    await set_version(site, 1)
    assert await Pages(site).all(limit=3) == wanted
    progress = []
    added = await backfill_starts(site.jetstream, site.subjects, lambda *at: progress.append(at))
    assert (added, progress) == (8, [(8, 8)])
    assert await backfill_starts(site.jetstream, site.subjects, lambda *_: None) == 0
    await set_version(site, 2)
    # What version 0.2 started after the first row comes late, but is there.
    assert await Pages(site).all(limit=3) == [between, newest, queued, *reversed(old)]


async def test_runs_that_failed_before_version_two_are_indexed(site, pages):
    """By applying the topology, once."""
    failed, completed = new_execution_id(), new_execution_id()
    bucket = Bucket(site.jetstream, site.subjects.stream(RUNS))
    await bucket.put(f"t.w.{failed}", summary(failed, "failed"))
    await bucket.put(f"t.w.{completed}", summary(completed, "completed"))
    for _ in range(2):
        await backfill_starts(site.jetstream, site.subjects, lambda *_: None)
    assert await pages.all(status="failed", limit=1) == [failed]
    assert await pages.all() == [completed, failed]


def summary(execution, status):
    """Return a summary as version 0.2 stores it."""
    return msgspec.json.encode(summary_of(ExecutionState(execution, "w", "W", 3, status)))


async def set_version(site, version):
    """Record the version of the topology."""
    info = await site.jetstream.api(f"STREAM.INFO.{site.events}")
    metadata = {k: v for k, v in info["config"]["metadata"].items() if not k.startswith("_nats.")}
    config = {**info["config"], "metadata": metadata | {VERSION_KEY: str(version)}}
    await site.jetstream.api(f"STREAM.UPDATE.{site.events}", config)
