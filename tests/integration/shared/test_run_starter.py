"""Starting runs: by request, as a child, and again."""

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
from tailrace_shared.nats.topology import JOBS
from tailrace_shared.stores.stores import Stores
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
SCHEMA = {"type": "object", "required": ["x"]}
CHILD = ev.Origin(parent=ev.Parent("p", "n"), depth=1)


class Office:
    """A starter, and what it starts."""

    def __init__(self, site):
        self.site = site
        stores = Stores.over(site.jetstream, site.subjects)
        self.workflows, self.due, self.runs = stores.workflows, stores.due, stores.runs
        self.starter = RunStarter(stores, JobPublisher(site.jetstream, site.subjects))

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
        """Return how many jobs were published."""
        return await self.site.count(self.site.subjects.stream(JOBS))

    async def dues(self):
        """Return for which executions there are entries."""
        return {due.execution async for due in self.due.entries()}


@pytest.fixture
async def office(site):
    """A starter and a first version of ``w``."""
    office = Office(site)
    await office.store()
    return office


async def test_a_started_run_is_due_at_once(office):
    """It is in the log, in the list, and with the workers."""
    state = await office.start({"x": 1})
    assert await office.dues() == {state.execution_id}
    assert (await office.site.log.load("t", state.execution_id)).state == state
    assert [run.execution_id for run in (await office.runs.page("t")).runs] == [state.execution_id]
    assert await office.jobs() == 1


async def test_a_run_is_due_before_it_exists(office, monkeypatch):
    """So that a starter that dies in between leaves a trace of what it began."""

    async def die(*_args):
        raise UnavailableError("died")

    monkeypatch.setattr(office.starter._log, "create", die)
    with pytest.raises(UnavailableError):
        await office.start({"x": 1})
    assert len(await office.dues()) == 1
    assert await office.jobs() == 0


class TestChildren:
    """Child runs: the parent has recorded their id."""

    async def test_a_child_is_started_once(self, office):
        """However often the parent tries; a job is published as long as it is queued."""
        child = new_execution_id()
        states = await asyncio.gather(
            *(office.starter.start_child("t", child, "w", {"x": 1}, CHILD) for _ in range(4))
        )
        assert {state.execution_id for state in states} == {child}
        assert all(state.parent == CHILD.parent and state.depth == 1 for state in states)
        assert await office.jobs() == 4
        started = ev.ExecutionStarted(ev.Started(child, "running", NOW), NOW)
        await office.site.commit(child, started)
        again = await office.starter.start_child("t", child, "w", {"x": 1}, CHILD)
        assert (again.status, await office.jobs()) == ("running", 4)

    async def test_a_child_is_of_the_newest_version(self, office):
        """At its creation; later ones, and the end of the workflow, change nothing."""
        version = await office.store(m=Node("log"))
        child = new_execution_id()
        first = await office.starter.start_child("t", child, "w", {"x": 1}, CHILD)
        await office.store()
        await office.workflows.delete("t", "w")
        second = await office.starter.start_child("t", child, "w", {"x": 1}, CHILD)
        assert (first.version, second.version) == (version, version)

    async def test_what_cannot_be_a_child_leaves_nothing(self, office):
        """No such workflow, or not with this input."""
        with pytest.raises(WorkflowNotFoundError):
            await office.starter.start_child("t", "c", "never", None, CHILD)
        with pytest.raises(InvalidInputError, match="'x' is a required property"):
            await office.starter.start_child("t", "c", "w", {}, CHILD)
        assert await office.dues() == set()


class TestReruns:
    """Running again what has ended."""

    async def test_a_rerun_has_the_version_and_the_input_of_the_original(self, office):
        """And names it."""
        original = await office.ended()
        await office.store(m=Node("log"))
        state = await office.starter.rerun("t", original.execution_id, "n", None)
        assert state.execution_id != original.execution_id
        assert (state.version, state.input) == (original.version, {"x": 1})
        assert (state.rerun_of, state.from_node) == (original.execution_id, "n")
        assert (await office.site.log.load("t", state.execution_id)).state == state
        assert state.execution_id in await office.dues()

    async def test_one_key_makes_one_rerun(self, office):
        """Of one execution, from one node; it has nothing to do with the key of a start."""
        original, other = await office.ended(), await office.ended()
        started = await office.start({"x": 1}, key="k")
        reruns = await asyncio.gather(
            *(office.starter.rerun("t", original.execution_id, None, "k") for _ in range(4))
        )
        ids = {state.execution_id for state in reruns}
        assert len(ids) == 1
        elsewhere = await office.starter.rerun("t", other.execution_id, None, "k")
        fresh = await office.starter.rerun("t", original.execution_id, None, None)
        assert len(ids | {started.execution_id, elsewhere.execution_id, fresh.execution_id}) == 4
        with pytest.raises(IdempotencyConflictError):
            await office.starter.rerun("t", original.execution_id, "n", "k")

    async def test_only_what_has_ended_is_run_again(self, office):
        """And only from a node that it has."""
        running = await office.start({"x": 1})
        with pytest.raises(IllegalCommandError, match="is queued; only one that has ended"):
            await office.starter.rerun("t", running.execution_id, None, None)
        original = await office.ended()
        for node in ("m", "n[0]", ""):
            with pytest.raises(InvalidInputError) as caught:
                await office.starter.rerun("t", original.execution_id, node, None)
            assert caught.value.problems[0].pointer == "/from_node"
        for tenant, execution in (("t", new_execution_id()), ("u", original.execution_id)):
            with pytest.raises(ExecutionNotFoundError):
                await office.starter.rerun(tenant, execution, None, None)
