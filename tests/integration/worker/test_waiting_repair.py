"""The waiting index is compared with the log and repaired."""

import time

import pytest

from harness.fakes.job_callback import JobCallback
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commit_status import STATE
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.state import fold
from tailrace_shared.ids import new_execution_id
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.stores import Stores
from tailrace_worker.engine.recovery import waiting_repair
from tailrace_worker.engine.recovery.waiting_repair import WaitingRepair

NOW = "2024-01-15T10:30:00.000Z"


class Scene:
    """Executions that wait, with or without their entries in the indexes."""

    def __init__(self, site):
        self.site = site
        self.stores = Stores.over(site.jetstream, site.subjects)
        self.jobs = []
        self.later = 3600.0
        self.repair = WaitingRepair(
            self.stores, JobCallback(self.advance), 1.0, lambda: time.time() + self.later
        )

    async def advance(self, _tenant, execution):
        """Record the execution whose job was published."""
        self.jobs.append(execution)

    async def wait(self, *nodes, listed=None, live=True, ended=False):
        """Create an execution whose ``nodes`` wait, and the entries ``listed``."""
        execution = new_execution_id()
        events: list[ev.Event] = [
            ev.ExecutionQueued(ev.Queued(execution, "w", "W", 1, None, "queued"), NOW),
            ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW),
        ]
        for node in nodes:
            wait = ev.StepWait(node, "await", "waiting", wait="signal", attempt=1)
            events.append(ev.StepStarted(ev.StepBegun(node, "await", "running", 1, NOW), NOW))
            events.append(ev.StepWaiting(wait, NOW))
        if ended:
            events.append(ev.ExecutionCancelled(ev.Cancelled(execution, "cancelled", 1), NOW))
        (payload,) = encode_commits(events)
        subject = self.site.subjects.log("t", execution)
        headers = {STATE: str(fold(events).commit_status)}
        await append(
            self.site.jetstream, self.site.events, subject, payload, expected=0, headers=headers
        )
        for node in nodes if listed is None else listed:
            await self.stores.waiting.put(
                "t", Waiting(execution, node, "w", "W", "", NOW, triggers=["paid"])
            )
        if live:
            await self.stores.live.put("t", "w", execution)
        return execution

    async def nodes(self, execution):
        """Return the nodes of an execution in the waiting index."""
        return {each.node_id for each in await self.stores.waiting.of_execution("t", execution)}


@pytest.fixture
def scene(site):
    return Scene(site)


async def test_a_correct_index_is_left_alone(scene):
    execution = await scene.wait("a", "b")
    assert await scene.repair.sweep() == 0
    assert (await scene.nodes(execution), scene.jobs) == ({"a", "b"}, [])


async def test_entries_of_ended_waits_are_removed(scene):
    """Of executions that have ended, have no log, or have gone on."""
    ended = await scene.wait("a", ended=True)
    further = await scene.wait("a", listed=["a", "b"])
    gone = new_execution_id()
    await scene.stores.waiting.put("t", Waiting(gone, "a", "w", "W", "", NOW))
    assert await scene.repair.sweep() == 3
    assert [await scene.nodes(each) for each in (ended, further, gone)] == [set(), {"a"}, set()]
    assert await scene.stores.waiting.pointers("t", "paid") == [(further, "a")]
    assert await scene.repair.sweep() == 0


async def test_an_execution_that_lacks_an_entry_is_driven(scene):
    execution = await scene.wait("a", "b", listed=["b"])
    assert await scene.repair.sweep() == 1
    assert scene.jobs == [execution]


async def test_a_waiting_execution_is_added_to_the_live_index(scene):
    """An older version may have begun it."""
    execution = await scene.wait("a", live=False)
    assert await scene.repair.sweep() == 1
    assert await scene.stores.live.of_tenant("t") == [("w", execution)]


async def test_what_was_committed_a_moment_ago_is_left_to_its_worker(scene):
    scene.later = 0.0
    execution = await scene.wait("a", listed=["a", "b"])
    assert await scene.repair.sweep() == 0
    assert await scene.nodes(execution) == {"a", "b"}


async def test_all_slices_are_checked_in_turn(scene, monkeypatch):
    """By whichever worker: the position is stored."""
    monkeypatch.setattr(waiting_repair, "_SLICE", 2)
    wrong = [await scene.wait("a", ended=True) for _ in range(5)]
    assert [await scene.repair.sweep() for _ in range(4)] == [2, 2, 1, 0]
    assert [await scene.nodes(execution) for execution in wrong] == [set()] * 5
