"""Delivery of triggers to the steps that wait for them."""

import asyncio
from typing import ClassVar

import msgspec
import pytest

from harness.fakes.job_callback import JobCallback
from harness.nats.current_reads import current_commits
from tailrace_shared.commands import signals
from tailrace_shared.commands.signals import Signals
from tailrace_shared.commands.trigger_filters import Delivered, TriggerFilters
from tailrace_shared.commands.trigger_jobs import TriggerJobs
from tailrace_shared.execution import events as ev
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.jetstream import subject_counts
from tailrace_shared.nats.topology import JOBS, TRIGGERS
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node
from tailrace_shared.workflow.expressions.budget import DEFAULT_STEPS
from tailrace_shared.workflow.expressions.expression import Expression

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("await")}), 1)


class Waiters:
    """Executions that wait, and the signals for them."""

    def __init__(self, site):
        self.site = site
        self.log = site.log
        stores = Stores.over(site.jetstream, site.subjects, 1_000_000)
        self.waiting, self.triggers = stores.waiting, stores.triggers
        self.due, self.outputs = stores.due, stores.outputs
        self.advanced = []
        self.trigger_jobs = TriggerJobs(site.jetstream, site.subjects)
        self.signals = Signals(stores, JobCallback(self.advance), self.trigger_jobs)

    async def advance(self, _tenant, execution):
        """Record the execution whose job was published."""
        self.advanced.append(execution)

    async def wait(self, *triggers, run_input=None, node="n", before=(), listed=True, **fields):
        """Create an execution that waits; return its index entry."""
        execution = new_execution_id()
        await self.log.create("t", execution, WORKFLOW, run_input)
        begun = ev.StepStarted(ev.StepBegun(node, "await", "running", 1, NOW), NOW)
        waits = ev.StepWait(node, "await", "waiting", wait="signal", attempt=1)
        started = ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW)
        await self.site.commit(execution, started, *before, begun, ev.StepWaiting(waits, NOW))
        last = await self.log.last_commit("t", execution)
        waiting = Waiting(
            execution, node, "w", "W", "signal", NOW,
            triggers=list(triggers), began=last.time, **fields,
        )  # fmt: skip
        if listed:
            await self.waiting.put("t", waiting)
        return waiting

    async def commands(self, waiting):
        """Return the commands in an execution's log."""
        commits = await current_commits(self.log, "t", waiting.execution_id)
        events = [event for commit in commits for event in commit.events()]
        return [event.data for event in events if isinstance(event, ev.CommandRequested)]


@pytest.fixture
def waiters(site):
    return Waiters(site)


async def test_a_trigger_resolves_all_waits_for_it(waiters):
    """Each wait gets the trigger's data; the job of each execution is published."""
    waits = [await waiters.wait("paid", "other") for _ in range(40)]
    other = await waiters.wait("shipped")
    assert await waiters.signals.emit("t", "paid", {"amount": 7}) == 40
    for waiting in waits:
        (command,) = await waiters.commands(waiting)
        assert (command.command, command.node_id, command.procedure) == ("resolve", "n", "paid")
        assert command.event == {"amount": 7}
    assert await waiters.commands(other) == []
    assert sorted(waiters.advanced) == sorted(waiting.execution_id for waiting in waits)
    # All have their jobs, so the due index has no entries.
    assert [entry async for entry in waiters.due.entries()] == []
    assert await waiters.signals.emit("u", "paid", None) == 0


async def test_a_redelivered_trigger_counts_once(waiters):
    """The job is published again, in case the first one was lost."""
    waiting = await waiters.wait("paid")
    trigger = await waiters.triggers.publish("t", "paid", 1)
    assert await waiters.signals.deliver("t", trigger) == 1
    assert await waiters.signals.deliver("t", trigger) == 1
    assert await waiters.signals.emit("t", "paid", 2) == 0
    assert [command.event for command in await waiters.commands(waiting)] == [1]
    assert waiters.advanced == [waiting.execution_id] * 2


async def test_of_concurrent_triggers_one_wins(waiters):
    """The fence of the log decides, and each sender gets the right count."""
    waiting = await waiters.wait("paid")
    matched = await asyncio.gather(*(waiters.signals.emit("t", "paid", n) for n in range(8)))
    assert sum(matched) == 1
    (command,) = await waiters.commands(waiting)
    assert command.event == matched.index(1)


async def test_only_matching_waits_are_resolved(waiters):
    """A match reads the event, the input and outputs, from the index or from the log."""
    match = "event.order == input.order && nodes.a.output.ok && execution.workflow == 'w'"
    done = ev.StepCompleted(
        ev.StepDone("a", "transform", "success", 1, NOW, NOW, 0, {"ok": True}), NOW
    )
    before = [ev.StepStarted(ev.StepBegun("a", "transform", "running", 1, NOW), NOW), done]
    read = [
        await waiters.wait("paid", match=match, run_input={"order": n}, before=before)
        for n in range(3)
    ]
    context = {
        "input": {"order": 1},
        "nodes": {"a": {"output": {"ok": True}}},
        "execution": {"workflow": "w"},
    }
    kept = await waiters.wait("paid", match=match, context=context)
    assert await waiters.signals.emit("t", "paid", {"order": 1}) == 2
    resolved = [len(await waiters.commands(waiting)) for waiting in (*read, kept)]
    assert resolved == [0, 1, 0, 1]


async def test_a_match_may_use_a_stored_output(waiters):
    ref = await waiters.outputs.put("t", "e", "a", 1, b'{"ok": true}')
    done = ev.StepDone("a", "transform", "success", 1, NOW, NOW, 0, None, output_ref=ref)
    begun = ev.StepStarted(ev.StepBegun("a", "transform", "running", 1, NOW), NOW)
    before = [begun, ev.StepCompleted(done, NOW)]
    await waiters.wait("paid", match="nodes.a.output.ok", before=before)
    assert await waiters.signals.emit("t", "paid", {}) == 1


@pytest.mark.parametrize("match", ["event.no.such == 1", "event.n", "input.x == 1", "("])
async def test_a_failing_match_affects_no_other_wait(waiters, match):
    """The sender gets no error; only ``true`` matches."""
    wrong = await waiters.wait("paid", match=match)
    right = await waiters.wait("paid", match="event.n == 1")
    assert await waiters.signals.emit("t", "paid", {"n": 1}) == 1
    assert (len(await waiters.commands(wrong)), len(await waiters.commands(right))) == (0, 1)


async def test_an_ended_wait_is_removed_from_the_index(waiters):
    """The worker that resolved it may have died before it removed the entry."""
    waiting = await waiters.wait("paid")
    end = ev.ExecutionCancelled(ev.Cancelled(waiting.execution_id, "cancelled", 1), NOW)
    await waiters.site.commit(waiting.execution_id, end)
    gone = await waiters.wait("paid", listed=False)
    await waiters.waiting.put(
        "t", Waiting(new_execution_id(), "n", "w", "W", "", NOW, triggers=["paid"])
    )
    await waiters.waiting.put("t", gone)
    assert await waiters.signals.emit("t", "paid", None) == 1
    left = await waiters.waiting.get("t", await waiters.waiting.pointers("t", "paid"))
    assert left == [gone]
    assert waiters.advanced == [gone.execution_id]


class TestDeliveryByAWorker:
    """A stored trigger reaches every wait, even if its sender stops or dies."""

    async def jobs(self, waiters):
        """Return the jobs of triggers: those to be sent later, and those to be done now."""
        subjects = waiters.site.subjects
        counts = await subject_counts(waiters.site.jetstream, subjects.stream(JOBS))
        later = sum(counts.get(name, 0) for name in counts if ".at.triggers." in name)
        return later, counts.get(subjects.job("triggers"), 0)

    async def test_a_complete_delivery_leaves_no_job(self, waiters):
        """And without waits there is none at any time."""
        jobs = waiters.site.subjects.stream(JOBS)
        assert await waiters.signals.send("t", "paid", 1) == (0, False)
        assert await waiters.site.taken(jobs) == 0
        await waiters.wait("paid")
        assert await waiters.signals.send("t", "paid", 1) == (1, False)
        assert await self.jobs(waiters) == (0, 0)

    async def test_what_takes_long_is_continued_by_a_worker(self, waiters, monkeypatch):
        waits = [await waiters.wait("paid") for _ in range(10)]
        monkeypatch.setattr(signals, "_SENDER_S", -1.0)
        assert await waiters.signals.send("t", "paid", 1) == (0, True)
        assert await self.jobs(waiters) == (0, 1)
        sequence = await waiters.site.taken(waiters.site.subjects.stream(TRIGGERS))
        for _ in range(2):
            await waiters.signals.deliver_stored("t", sequence)
            assert [len(await waiters.commands(waiting)) for waiting in waits] == [1] * 10

    async def test_a_sender_that_dies_leaves_a_job(self, waiters, monkeypatch):
        """At whichever wait it dies."""
        waits = [await waiters.wait("paid") for _ in range(10)]
        monkeypatch.setattr(signals, "_AT_ONCE", 1)
        request, count = ExecutionLog.request, 0

        async def die(*arguments):
            nonlocal count
            count += 1
            if count == 5:
                raise asyncio.CancelledError
            return await request(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(ExecutionLog, "request", die)
            with pytest.raises(asyncio.CancelledError):
                await waiters.signals.send("t", "paid", 1)
        assert await self.jobs(waiters) == (1, 0)
        sequence = await waiters.site.taken(waiters.site.subjects.stream(TRIGGERS))
        await waiters.signals.deliver_stored("t", sequence)
        assert [len(await waiters.commands(waiting)) for waiting in waits] == [1] * 10

    async def test_a_trigger_of_another_tenant_is_not_delivered(self, waiters):
        waiting = await waiters.wait("paid")
        trigger = await waiters.triggers.publish("u", "paid", 1)
        await waiters.signals.deliver_stored("t", trigger.sequence)
        await waiters.signals.deliver_stored("t", trigger.sequence + 1)
        assert await waiters.commands(waiting) == []


async def test_a_trigger_resolves_all_waits_of_an_execution_in_one_commit(waiters):
    """Its log is read once for any number of them; one that was resolved otherwise is left out."""
    execution = new_execution_id()
    names = [f"n{number}" for number in range(100)]
    definition = Definition("w", {name: Node("await") for name in names})
    await waiters.log.create("t", execution, StoredWorkflow(definition, 1), None)
    started = ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW)
    steps = [
        event
        for name in names
        for event in (
            ev.StepStarted(ev.StepBegun(name, "await", "running", 1, NOW), NOW),
            ev.StepWaiting(ev.StepWait(name, "await", "waiting", wait="signal", attempt=1), NOW),
        )
    ]
    await waiters.site.commit(execution, started, *steps)
    for name in [*names, "other"]:
        await waiters.waiting.put(
            "t", Waiting(execution, name, "w", "W", "", NOW, triggers=["paid"])
        )
    before = await waiters.site.taken(waiters.site.events)
    assert await waiters.signals.emit("t", "paid", 1) == 100
    assert await waiters.site.taken(waiters.site.events) == before + 1
    assert waiters.advanced == [execution]
    assert len(await waiters.waiting.pointers("t", "paid")) == 100
    state = (await waiters.log.load_newest("t", execution)).state
    assert all(state.steps[name].resolution for name in names)


class TestLookBack:
    """Triggers that came before a wait was in the index."""

    async def test_a_trigger_between_the_wait_and_its_entry_is_found(self, waiters):
        waiting = await waiters.wait("shipped", "paid", listed=False)
        assert await waiters.signals.emit("t", "paid", 1) == 0
        assert await waiters.signals.emit("t", "shipped", 2) == 0
        await waiters.waiting.put("t", waiting)
        assert await waiters.signals.look_back("t", waiting)
        (command,) = await waiters.commands(waiting)
        assert (command.procedure, command.event) == ("paid", 1)

    async def test_an_older_trigger_counts_within_the_lookback(self, waiters):
        """The earliest that matches."""
        for n in range(4):
            await waiters.signals.emit("t", "paid", {"n": n})
        now = await waiters.wait("paid")
        assert not await waiters.signals.look_back("t", now)
        back = await waiters.wait("paid", lookback=60.0, match="event.n >= 2")
        assert await waiters.signals.look_back("t", back)
        assert [command.event for command in await waiters.commands(back)] == [{"n": 2}]

    async def test_a_delivery_applies_the_same_rule(self, waiters):
        """Either side rejects a trigger that came too early."""
        early = await waiters.triggers.publish("t", "paid", 1)
        await waiters.wait("paid")
        back = await waiters.wait("paid", lookback=60.0)
        assert await waiters.signals.deliver("t", early) == 1
        assert len(await waiters.commands(back)) == 1

    async def test_of_sender_and_worker_at_least_one_finds_the_other(self, waiters):
        """This holds in every interleaving, and the signal counts once."""

        async def register(waiting):
            await waiters.waiting.put("t", waiting)
            return await waiters.signals.look_back("t", waiting)

        for _ in range(40):
            waiting = await waiters.wait("paid", listed=False)
            matched, found = await asyncio.gather(
                waiters.signals.emit("t", "paid", None), register(waiting)
            )
            assert matched + found >= 1
            assert len(await waiters.commands(waiting)) == 1
            await waiters.waiting.remove("t", waiting)


class TestExpensiveFilters:
    """Filters that cost thousands of steps, as a tenant may write them."""

    MATCH = "event.all.filter(x, x > 3).size() == 996"
    EVENT: ClassVar = {"all": list(range(1000))}

    async def test_the_sender_leaves_them_to_a_worker(self, waiters):
        """It evaluates a few; the job of the trigger stays, and a worker's delivery ends it."""
        waits = [await waiters.wait("paid", match=self.MATCH) for _ in range(12)]
        delivery = await waiters.signals.send("t", "paid", self.EVENT)
        assert delivery.continues
        assert 0 < delivery.matched < 12
        trigger = await waiters.triggers.get("t", 1)
        assert await waiters.signals.deliver("t", trigger) == 12
        assert [len(await waiters.commands(waiting)) for waiting in waits] == [1] * 12

    async def test_other_work_gets_its_turn_between_two_filters(self, waiters, monkeypatch):
        """No more than one expensive filter is evaluated in one iteration of the event loop."""
        evaluated: list[int] = []
        iteration = 0

        async def count_iterations():
            nonlocal iteration
            while True:
                iteration += 1
                await asyncio.sleep(0)

        evaluate = Expression.evaluate

        def note(self, *arguments):
            evaluated.append(iteration)
            return evaluate(self, *arguments)

        monkeypatch.setattr(Expression, "evaluate", note)
        for _ in range(8):
            await waiters.wait("paid", match=self.MATCH)
        trigger = await waiters.triggers.publish("t", "paid", self.EVENT)
        counter = asyncio.create_task(count_iterations())
        assert await waiters.signals.deliver("t", trigger) == 8
        counter.cancel()
        assert len(set(evaluated)) == len(evaluated) == 8

    async def test_a_filter_beyond_its_budget_does_not_match(self, waiters):
        """The other waits are resolved."""
        await waiters.wait("paid", match="event.all.all(x, x in event.all)")
        await waiters.wait("paid", match="event.all.size() == 1000")
        assert await waiters.signals.emit("t", "paid", self.EVENT) == 1

    async def test_the_filters_of_one_run_read_its_log_once(self, waiters, monkeypatch):
        """Four hundred waits of one run would otherwise read a log of four hundred waits each."""
        first = await waiters.wait("paid", match="event.n == input.n", run_input={"n": 1})
        waits = [msgspec.structs.replace(first, node_id=f"n{i}") for i in range(400)]
        loads = 0
        load = waiters.log.load_newest

        async def counted(*arguments):
            nonlocal loads
            loads += 1
            return await load(*arguments)

        monkeypatch.setattr(waiters.log, "load_newest", counted)
        filters = TriggerFilters(waiters.log, waiters.outputs, DEFAULT_STEPS)
        trigger = await waiters.triggers.publish("t", "paid", {"n": 1})
        assert await filters.matching("t", waits, Delivered(trigger)) == waits
        assert loads == 1
