"""Starting runs: by request, as children, and reruns."""

import asyncio

import pytest

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.run_input import InvalidInputError
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IdempotencyConflictError,
    IllegalCommandError,
    UnavailableError,
    WorkflowNotFoundError,
)
from tailrace_shared.execution import events as ev
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.stores.run_query import RunQuery
from tailrace_shared.stores.stores import Stores
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
SCHEMA = {"type": "object", "required": ["x"]}
CHILD = ev.Origin(parent=ev.Parent("p", "n"), depth=1)


class Starter:
    """A run starter and the stores that it writes."""

    def __init__(self, site):
        self.site = site
        stores = Stores.over(site.jetstream, site.subjects)
        self.workflows, self.due = stores.workflows, stores.due
        self.run_list = stores.run_list
        self.starter = RunStarter(
            stores, JobPublisher(site.jetstream, site.subjects), FairThreads()
        )

    async def store(self, **nodes):
        """Store a version of the workflow ``w``."""
        nodes = nodes or {"n": Node("log")}
        return await self.workflows.put("t", Definition("w", nodes, input=SCHEMA))

    async def start(self, run_input, key=None):
        """Start a run of ``w``."""
        return await self.starter.start(RunRequest("t", "w", "input", run_input, run_input, key))

    async def ended(self):
        """Return an execution that was cancelled."""
        state = await self.start({"x": 1})
        end = ev.ExecutionCancelled(ev.Cancelled(state.execution_id, "cancelled", 1), NOW)
        await self.site.commit(state.execution_id, end)
        return state

    async def jobs(self):
        """Return the number of published jobs."""
        return await self.site.count(self.site.subjects.stream(JOBS))

    async def dues(self):
        """Return the executions in the due index."""
        return {due.execution async for due in self.due.entries()}


@pytest.fixture
async def starts(site):
    """A starter and a first version of ``w``."""
    starts = Starter(site)
    await starts.store()
    return starts


async def test_a_started_run_is_due_at_once(starts):
    """It is in the log and in the list, and its job is published."""
    state = await starts.start({"x": 1})
    assert await starts.dues() == {state.execution_id}
    assert (await starts.site.log.load_newest("t", state.execution_id)).state == state
    assert [run.execution_id for run in (await starts.run_list.page("t")).runs] == [
        state.execution_id
    ]
    assert await starts.jobs() == 1


async def test_a_run_is_due_before_it_exists(starts, monkeypatch):
    """A starter that dies in between leaves an entry for the sweeper."""

    async def die(*_args):
        raise SystemError

    monkeypatch.setattr(starts.starter._log, "create", die)
    with pytest.raises(SystemError):
        await starts.start({"x": 1})
    assert len(await starts.dues()) == 1
    assert await starts.jobs() == 0


@pytest.mark.parametrize("is_stored", [False, True])
@pytest.mark.parametrize("has_key", [False, True])
async def test_a_start_is_repeated_while_nats_does_not_acknowledge(
    starts, monkeypatch, has_key, is_stored
):
    """One run comes of it, whichever publish fails, before or after NATS has stored it."""
    publish = JetStream.publish
    failing = published = 0

    async def publish_or_fail(self, *args):
        nonlocal published
        published += 1
        if published != failing:
            return await publish(self, *args)
        if is_stored:
            await publish(self, *args)
        raise UnavailableError("an election")

    monkeypatch.setattr(JetStream, "publish", publish_or_fail)
    started = []
    while published >= failing:
        failing, published = failing + 1, 0
        key = f"key-{failing}" if has_key else None
        started.append((await starts.start({"x": 1}, key)).execution_id)
    assert failing > 5
    listed = [run.execution_id for run in (await starts.run_list.page("t")).runs]
    assert sorted(listed) == sorted(started)
    assert await starts.dues() == set(started)
    for execution in started:
        assert (await starts.site.log.load_newest("t", execution)).state.status == "queued"


async def test_a_run_has_the_tags_of_its_workflow_and_its_own(starts):
    """In the log and in the list; a rerun keeps them."""
    nodes = {"n": Node("log")}
    await starts.workflows.put("t", Definition("w", nodes, tags=["orders", "eu"]))
    request = RunRequest("t", "w", "input", {}, {}, None, ev.Origin(tags=("vip", "eu")))
    state = await starts.starter.start(request)
    assert state.tags == ["orders", "eu", "vip"]
    assert (await starts.site.log.load_newest("t", state.execution_id)).state == state
    end = ev.ExecutionCancelled(ev.Cancelled(state.execution_id, "cancelled", 1), NOW)
    await starts.site.commit(state.execution_id, end)
    again = await starts.starter.rerun("t", state.execution_id, None, None)
    assert again.tags == state.tags
    for tag in state.tags:
        page = await starts.run_list.page("t", RunQuery(tag=tag))
        assert [run.execution_id for run in page.runs] == [again.execution_id, state.execution_id]


async def test_too_many_tags_are_refused(starts):
    """Those of the workflow count."""
    own = [f"w{number}" for number in range(10)]
    await starts.workflows.put("t", Definition("w", {"n": Node("log")}, tags=own))
    request = RunRequest(
        "t", "w", "input", {}, {}, None, ev.Origin(tags=tuple(f"r{n}" for n in range(7)))
    )
    with pytest.raises(InvalidInputError, match="/tags: 17 tags"):
        await starts.starter.start(request)
    assert (
        await starts.starter.start(request._replace(origin=ev.Origin(tags=("r1", *own[:9]))))
    ).tags[-1] == "r1"


class TestChildren:
    """Child runs: the parent has recorded their id."""

    async def test_a_child_is_started_once(self, starts):
        """However often the parent retries; a job is published as long as the child is queued."""
        child = new_execution_id()
        states = await asyncio.gather(
            *(starts.starter.start_child("t", child, "w", {"x": 1}, CHILD) for _ in range(4))
        )
        assert {state.execution_id for state in states} == {child}
        assert all(state.parent == CHILD.parent and state.depth == 1 for state in states)
        assert await starts.jobs() == 4
        started = ev.ExecutionStarted(ev.Started(child, "running", NOW), NOW)
        await starts.site.commit(child, started)
        again = await starts.starter.start_child("t", child, "w", {"x": 1}, CHILD)
        assert (again.status, await starts.jobs()) == ("running", 4)

    async def test_a_child_has_the_newest_version(self, starts):
        """The newest at its creation; later versions, or a deleted workflow, change nothing."""
        version = await starts.store(m=Node("log"))
        child = new_execution_id()
        first = await starts.starter.start_child("t", child, "w", {"x": 1}, CHILD)
        await starts.store()
        await starts.workflows.delete("t", "w")
        second = await starts.starter.start_child("t", child, "w", {"x": 1}, CHILD)
        assert (first.version, second.version) == (version, version)

    async def test_a_refused_child_leaves_nothing_behind(self, starts):
        """The workflow does not exist, or does not accept the input."""
        with pytest.raises(WorkflowNotFoundError):
            await starts.starter.start_child("t", "c", "never", None, CHILD)
        with pytest.raises(InvalidInputError, match="'x' is a required property"):
            await starts.starter.start_child("t", "c", "w", {}, CHILD)
        assert await starts.dues() == set()


class TestReruns:
    """Reruns of ended executions."""

    async def test_a_rerun_has_the_version_and_the_input_of_the_original(self, starts):
        original = await starts.ended()
        await starts.store(m=Node("log"))
        state = await starts.starter.rerun("t", original.execution_id, "n", None)
        assert state.execution_id != original.execution_id
        assert (state.version, state.input) == (original.version, {"x": 1})
        assert (state.rerun_of, state.from_node) == (original.execution_id, "n")
        assert (await starts.site.log.load_newest("t", state.execution_id)).state == state
        assert state.execution_id in await starts.dues()

    async def test_one_key_makes_one_rerun(self, starts):
        """A key belongs to one execution and node; keys of starts are separate."""
        original, other = await starts.ended(), await starts.ended()
        started = await starts.start({"x": 1}, key="k")
        reruns = await asyncio.gather(
            *(starts.starter.rerun("t", original.execution_id, None, "k") for _ in range(4))
        )
        ids = {state.execution_id for state in reruns}
        assert len(ids) == 1
        elsewhere = await starts.starter.rerun("t", other.execution_id, None, "k")
        fresh = await starts.starter.rerun("t", original.execution_id, None, None)
        assert len(ids | {started.execution_id, elsewhere.execution_id, fresh.execution_id}) == 4
        with pytest.raises(IdempotencyConflictError):
            await starts.starter.rerun("t", original.execution_id, "n", "k")

    async def test_only_ended_executions_can_be_rerun(self, starts):
        """The node to start from must be in their definition."""
        running = await starts.start({"x": 1})
        with pytest.raises(IllegalCommandError, match="is queued; only one that has ended"):
            await starts.starter.rerun("t", running.execution_id, None, None)
        original = await starts.ended()
        for node in ("m", "n[0]", ""):
            with pytest.raises(InvalidInputError) as caught:
                await starts.starter.rerun("t", original.execution_id, node, None)
            assert caught.value.problems[0].pointer == "/from_node"
        for tenant, execution in (("t", new_execution_id()), ("u", original.execution_id)):
            with pytest.raises(ExecutionNotFoundError):
                await starts.starter.rerun(tenant, execution, None, None)
