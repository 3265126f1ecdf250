"""Signals: triggers, brought to what waits for them."""

import asyncio

import pytest

from harness.fakes.job_callback import JobCallback
from tailrace_shared.commands.signals import Signals
from tailrace_shared.execution import events as ev
from tailrace_shared.ids import new_execution_id
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("await")}), 1)


class Hall:
    """Executions that wait, and the signals that are brought to them."""

    def __init__(self, site):
        self.site = site
        self.log = site.log
        stores = Stores.over(site.jetstream, site.subjects, 1_000_000)
        self.waiting, self.triggers = stores.waiting, stores.triggers
        self.due, self.outputs = stores.due, stores.outputs
        self.advanced = []
        self.signals = Signals(stores, JobCallback(self.advance))

    async def advance(self, _tenant, execution):
        """Take note of whose job was published."""
        self.advanced.append(execution)

    async def wait(self, *triggers, run_input=None, node="n", before=(), listed=True, **fields):
        """Have an execution wait; returns its entry."""
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
        commits = [commit async for commit in self.log.read("t", waiting.execution_id)]
        events = [event for commit in commits for event in commit.events()]
        return [event.data for event in events if isinstance(event, ev.CommandRequested)]


@pytest.fixture
def hall(site):
    """Nobody waits yet."""
    return Hall(site)


async def test_a_trigger_resolves_all_that_wait_for_it(hall):
    """With what it brought, and each is given to the workers."""
    waits = [await hall.wait("paid", "other") for _ in range(40)]
    other = await hall.wait("shipped")
    assert await hall.signals.emit("t", "paid", {"amount": 7}) == 40
    for waiting in waits:
        (command,) = await hall.commands(waiting)
        assert (command.command, command.node_id, command.procedure) == ("resolve", "n", "paid")
        assert command.event == {"amount": 7}
    assert await hall.commands(other) == []
    assert sorted(hall.advanced) == sorted(waiting.execution_id for waiting in waits)
    # All have their jobs, so nobody need look after them.
    assert [entry async for entry in hall.due.entries()] == []
    assert await hall.signals.emit("u", "paid", None) == 0


async def test_a_trigger_that_is_delivered_again_counts_once(hall):
    """But gives the execution a job again, should the first one be lost."""
    waiting = await hall.wait("paid")
    trigger = await hall.triggers.publish("t", "paid", 1)
    assert await hall.signals.deliver("t", trigger) == 1
    assert await hall.signals.deliver("t", trigger) == 1
    assert await hall.signals.emit("t", "paid", 2) == 0
    assert [command.event for command in await hall.commands(waiting)] == [1]
    assert hall.advanced == [waiting.execution_id] * 2


async def test_of_many_triggers_at_once_one_wins(hall):
    """The fence of the log decides, and each sender learns the truth."""
    waiting = await hall.wait("paid")
    matched = await asyncio.gather(*(hall.signals.emit("t", "paid", n) for n in range(8)))
    assert sum(matched) == 1
    (command,) = await hall.commands(waiting)
    assert command.event == matched.index(1)


async def test_the_match_decides(hall):
    """On the event, the input and the outputs; kept in the index or read from the log."""
    match = "event.order == input.order && nodes.a.output.ok && execution.workflow == 'w'"
    done = ev.StepCompleted(
        ev.StepDone("a", "transform", "success", 1, NOW, NOW, 0, {"ok": True}), NOW
    )
    before = [ev.StepStarted(ev.StepBegun("a", "transform", "running", 1, NOW), NOW), done]
    read = [
        await hall.wait("paid", match=match, run_input={"order": n}, before=before)
        for n in range(3)
    ]
    context = {
        "input": {"order": 1},
        "nodes": {"a": {"output": {"ok": True}}},
        "execution": {"workflow": "w"},
    }
    kept = await hall.wait("paid", match=match, context=context)
    assert await hall.signals.emit("t", "paid", {"order": 1}) == 2
    resolved = [len(await hall.commands(waiting)) for waiting in (*read, kept)]
    assert resolved == [0, 1, 0, 1]


async def test_the_match_may_name_an_output_that_is_kept_elsewhere(hall):
    """It is fetched for it."""
    ref = await hall.outputs.put("t", "e", "a", 1, b'{"ok": true}')
    done = ev.StepDone("a", "transform", "success", 1, NOW, NOW, 0, None, output_ref=ref)
    begun = ev.StepStarted(ev.StepBegun("a", "transform", "running", 1, NOW), NOW)
    before = [begun, ev.StepCompleted(done, NOW)]
    await hall.wait("paid", match="nodes.a.output.ok", before=before)
    assert await hall.signals.emit("t", "paid", {}) == 1


@pytest.mark.parametrize("match", ["event.no.such == 1", "event.n", "input.x == 1", "("])
async def test_an_error_of_one_is_no_match_for_it_and_nothing_to_others(hall, match):
    """Nor is it for the sender to hear of; only true is true."""
    wrong = await hall.wait("paid", match=match)
    right = await hall.wait("paid", match="event.n == 1")
    assert await hall.signals.emit("t", "paid", {"n": 1}) == 1
    assert (len(await hall.commands(wrong)), len(await hall.commands(right))) == (0, 1)


async def test_a_wait_that_has_ended_is_struck_out(hall):
    """Should whoever ended it have forgotten to."""
    waiting = await hall.wait("paid")
    end = ev.ExecutionCancelled(ev.Cancelled(waiting.execution_id, "cancelled", 1), NOW)
    await hall.site.commit(waiting.execution_id, end)
    gone = await hall.wait("paid", listed=False)
    await hall.waiting.put(
        "t", Waiting(new_execution_id(), "n", "w", "W", "", NOW, triggers=["paid"])
    )
    await hall.waiting.put("t", gone)
    assert await hall.signals.emit("t", "paid", None) == 1
    left = [each async for each in hall.waiting.of_procedure("t", "paid")]
    assert left == [gone]
    assert hall.advanced == [gone.execution_id]


class TestLookBack:
    """Triggers that came before a wait was written down."""

    async def test_one_that_came_in_between_is_found(self, hall):
        """After the wait began, before it was listed."""
        waiting = await hall.wait("shipped", "paid", listed=False)
        assert await hall.signals.emit("t", "paid", 1) == 0
        assert await hall.signals.emit("t", "shipped", 2) == 0
        await hall.waiting.put("t", waiting)
        assert await hall.signals.look_back("t", waiting)
        (command,) = await hall.commands(waiting)
        assert (command.procedure, command.event) == ("paid", 1)

    async def test_one_that_came_before_counts_only_as_far_back_as_is_asked_for(self, hall):
        """The first that matches."""
        for n in range(4):
            await hall.signals.emit("t", "paid", {"n": n})
        now = await hall.wait("paid")
        assert not await hall.signals.look_back("t", now)
        back = await hall.wait("paid", lookback=60.0, match="event.n >= 2")
        assert await hall.signals.look_back("t", back)
        assert [command.event for command in await hall.commands(back)] == [{"n": 2}]

    async def test_a_delivery_keeps_to_the_same_rule(self, hall):
        """What came too early is too early for whoever finds it."""
        early = await hall.triggers.publish("t", "paid", 1)
        await hall.wait("paid")
        back = await hall.wait("paid", lookback=60.0)
        assert await hall.signals.deliver("t", early) == 1
        assert len(await hall.commands(back)) == 1

    async def test_of_the_sender_and_the_worker_at_least_one_finds_the_other(self, hall):
        """However the two interleave, and the signal counts once."""

        async def register(waiting):
            await hall.waiting.put("t", waiting)
            return await hall.signals.look_back("t", waiting)

        for _ in range(40):
            waiting = await hall.wait("paid", listed=False)
            matched, found = await asyncio.gather(
                hall.signals.emit("t", "paid", None), register(waiting)
            )
            assert matched + found >= 1
            assert len(await hall.commands(waiting)) == 1
            await hall.waiting.remove("t", waiting)
