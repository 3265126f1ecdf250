"""Executions are deleted once the retention after their end is over, and no earlier."""

import time

import pytest

from tailrace_shared.admin.backups.rebuild import Rebuild
from tailrace_shared.errors import ExecutionNotFoundError
from tailrace_shared.execution import events as ev
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.topology import RUNS, STARTS
from tailrace_shared.stores import start_pruning
from tailrace_shared.stores.indexes.start_index import Start, StartIndex
from tailrace_shared.stores.retention import Swept
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.subjects import LogFilter
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("log")}), 1)
RETENTION_S = 3600.0


class Deletion:
    """A retention of an hour, with a clock that the test sets.

    Attributes:
        later: seconds from now to the time of the clock.
    """

    def __init__(self, site):
        self.site = site
        self.stores = Stores.over(site.jetstream, site.subjects, 1_000_000)
        self.later = 0.0
        self.retention = self.stores.retention(RETENTION_S, lambda: time.time() + self.later)
        self.pruning = self.stores.start_pruning(RETENTION_S, lambda: time.time() + self.later)

    async def started(self, parent=None):
        """Create an execution, as its starter and its driver do."""
        execution = new_execution_id()
        origin = ev.Origin() if parent is None else ev.Origin(parent=ev.Parent(parent, "n"))
        await self.stores.starts.add("t", "w", Start(execution))
        state = await self.stores.log.create("t", execution, WORKFLOW, None, origin)
        assert state is not None
        await self.stores.runs.put("t", state)
        return execution

    async def ended(self, parent=None, *, summarize=True):
        """Create an execution that has completed, with an output that is stored apart."""
        execution = await self.started(parent)
        await self.stores.outputs.put("t", execution, "n", 1, b'"output"')
        await self.site.commit(
            execution,
            ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW),
            ev.ExecutionCompleted(ev.Completed(execution, "completed", 0, None), NOW),
        )
        if summarize:
            await self.stores.runs.put(
                "t", (await self.stores.log.load_newest("t", execution)).state
            )
        return execution

    async def has(self, execution):
        """Tell whether the log of an execution exists."""
        try:
            await self.stores.log.load_newest("t", execution)
        except ExecutionNotFoundError:
            return False
        return True

    async def listed(self):
        """Return the ids of the executions in the list."""
        page = await self.stores.run_list.page("t", limit=500)
        return {run.execution_id for run in page.runs}


@pytest.fixture
def deletion(site):
    return Deletion(site)


async def test_an_ended_execution_is_whole_until_its_retention_is_over(deletion):
    """Then its log, its outputs and its summary are deleted together."""
    execution = await deletion.ended()
    deletion.later = RETENTION_S - 60
    assert await deletion.retention.sweep() == Swept(0, 0)
    assert await deletion.has(execution)
    deletion.later = RETENTION_S + 60
    assert await deletion.retention.sweep() == Swept(1, 0)
    assert not await deletion.has(execution)
    assert await deletion.listed() == set()
    assert await deletion.site.count(deletion.site.subjects.stream("OUTPUTS")) == 0
    assert await deletion.site.count(deletion.site.events) == 0


async def test_a_restore_does_not_prolong_the_retention(deletion):
    """The summary is written anew, as of the end of the execution."""
    execution, site, stores = await deletion.ended(), deletion.site, deletion.stores
    ended_at = (await stores.log.load_newest("t", execution)).time
    while time.time() < ended_at + 0.01:
        pass
    await site.jetstream.api(f"STREAM.PURGE.KV_{site.subjects.stream(RUNS)}")
    rebuilt = await Rebuild(site.jetstream, site.subjects, stores).run(lambda _done, _all: None)
    assert rebuilt.ended == 1
    assert await deletion.listed() == {execution}
    for later, swept in [(-0.005, Swept(0, 0)), (0.005, Swept(1, 0))]:
        now = ended_at + RETENTION_S + later
        assert await stores.retention(RETENTION_S, lambda now=now: now).sweep() == swept
    assert await deletion.listed() == set()


async def test_messages_to_feeds_are_deleted_as_late_as_executions(deletion):
    """Each once it is old enough; readers learn by the horizon that they may be missing."""
    messages, horizons = deletion.stores.messages, deletion.stores.horizons
    first = await messages.publish("t", {"type": "note"}, time.time())
    (stored,) = (await deletion.stores.log.page(LogFilter("t"), first))[0]
    latest = stored.time + 0.01
    while time.time() < latest + 0.01:
        pass
    last = await messages.publish("t", {"type": "note"}, time.time())
    other = await messages.publish("u", {"type": "note"}, time.time())
    assert await messages.sweep(stored.time - 1) == 0
    assert await messages.sweep(latest) == 1
    assert await messages.sweep(latest) == 0
    assert [await horizons.of(tenant) for tenant in ("t", "u")] == [first, 0]
    page, _ = await deletion.stores.log.page(LogFilter("t"), 1)
    assert [commit.sequence for commit in page] == [last]
    deletion.later = RETENTION_S + 60
    assert await deletion.retention.sweep() == Swept(0, 0)
    assert [await horizons.of(tenant) for tenant in ("t", "u")] == [last, other]
    assert await deletion.site.count(deletion.site.events) == 0


async def test_an_execution_that_has_not_ended_is_kept(deletion):
    """However old it is, and each sweep reads it only once in a retention period."""
    execution = await deletion.started()
    deletion.later = RETENTION_S + 60
    assert await deletion.retention.sweep() == Swept(0, 1)
    assert await deletion.has(execution)
    assert await deletion.listed() == {execution}
    # The summary was written again by NATS's clock, which the test's clock is an hour ahead of.
    assert await deletion.retention.sweep() == Swept(0, 1)


async def test_executions_that_wait_do_not_keep_others_from_being_deleted(deletion):
    """Their summaries move behind those of the ended ones."""
    waiting = [await deletion.started() for _ in range(70)]
    ended = [await deletion.ended() for _ in range(70)]
    deletion.later = RETENTION_S + 60
    swept = await deletion.retention.sweep()
    assert swept.deleted == len(ended)
    assert await deletion.listed() == set(waiting)


async def test_a_child_is_kept_while_its_parent_has_not_ended(deletion):
    """The parent may not have read the child's result yet."""
    parent = await deletion.started()
    child = await deletion.ended(parent)
    deletion.later = RETENTION_S + 60
    assert (await deletion.retention.sweep()).deleted == 0
    assert await deletion.has(child)


async def test_an_execution_without_its_last_summary_is_given_to_a_worker(deletion):
    """Its worker died between the last commit and the summary."""
    execution = await deletion.ended(summarize=False)
    deletion.later = RETENTION_S + 60
    assert (await deletion.retention.sweep()).deleted == 0
    assert {due.execution async for due in deletion.stores.due.entries()} == {execution}


async def test_a_summary_without_a_log_is_removed(deletion):
    """A sweep crashed before it removed the summary, or the log had expired by age."""
    execution = await deletion.ended()
    await deletion.stores.log.delete("t", execution, 2**40)
    deletion.later = RETENTION_S + 60
    assert await deletion.retention.sweep() == Swept(1, 0)
    assert await deletion.listed() == set()


async def test_the_horizon_is_the_last_deleted_commit(deletion):
    """It never moves backwards."""
    assert await deletion.stores.horizons.of("t") == 0
    first, second = await deletion.ended(), await deletion.ended()
    last = (await deletion.stores.log.load_newest("t", second)).last_sequence
    deletion.later = RETENTION_S + 60
    assert (await deletion.retention.sweep()).deleted == 2
    assert await deletion.stores.horizons.of("t") == last
    assert await deletion.stores.horizons.of("other") == 0
    await deletion.stores.horizons.raise_to("t", last - 1)
    assert await deletion.stores.horizons.of("t") == last
    assert not await deletion.has(first)


async def test_an_output_survives_as_long_as_its_log(deletion):
    """Deleting one execution leaves the outputs of others."""
    first, second = await deletion.ended(), await deletion.ended()
    await deletion.stores.outputs.delete("t", first)
    assert await deletion.has(second)
    assert await deletion.site.count(deletion.site.subjects.stream("OUTPUTS")) == 1


async def test_the_rows_of_deleted_executions_are_removed(deletion, monkeypatch):
    """Those of others stay, and are read once in each pass."""
    stream = deletion.site.subjects.stream(STARTS)
    ended = [await deletion.ended() for _ in range(30)]
    waiting = await deletion.started()
    later = [await deletion.ended() for _ in range(20)]
    assert await deletion.pruning.sweep() == 0
    deletion.later = RETENTION_S + 60
    await deletion.retention.sweep()
    fresh = [await deletion.started() for _ in range(2)]
    # All rows are younger than their retention.
    deletion.later = RETENTION_S / 2
    assert await deletion.pruning.sweep() == 0
    deletion.later = RETENTION_S + 60
    monkeypatch.setattr(start_pruning, "_BATCH", 7)
    removed = await deletion.pruning.sweep()
    assert removed == len(ended) + len(later)
    assert await deletion.site.count(stream) == 1 + len(fresh)
    assert await deletion.listed() == {waiting, *fresh}
    reads = []
    original = deletion.stores.starts.oldest_first

    def oldest_first(_starts, sequence):
        reads.append(sequence)
        return original(sequence)

    monkeypatch.setattr(StartIndex, "oldest_first", oldest_first)
    deletion.later += RETENTION_S / 16
    assert await deletion.pruning.sweep() == 0
    assert reads == [await deletion.site.taken(stream) + 1]


async def test_a_start_that_was_never_completed_leaves_no_row(deletion):
    await deletion.stores.starts.add("t", "w", Start(new_execution_id()))
    deletion.later = RETENTION_S + 60
    assert await deletion.pruning.sweep() == 1
    assert await deletion.site.count(deletion.site.subjects.stream(STARTS)) == 0
