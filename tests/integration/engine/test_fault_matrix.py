"""Five hundred executions at once, and every fault: each ends right, no keyed effect twice.

Every execution has a step of each kind. Some of them are fatal to the workers that attend to
them, at each place where a process can die: before a step's effect, after the effect and before
its commit, before a commit, after a commit and before the effects that follow it, the job's
acknowledgement last of all. Meanwhile workers are frozen beyond the ack wait, and NATS is killed.

``PROOF_EXECUTIONS=2000 PROOF_DEATHS=12 pytest …/test_fault_matrix.py -o timeout=1200`` does more.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from harness.campaigns.campaign import Campaign, campaign
from harness.generators.random_workflows import ACTOR, PROCEDURE, STEP, checked
from harness.nats.server import NatsServer
from harness.processes.installation import TENANT
from tailrace_shared.execution.events import Event, StepCompleted, StepRetrying, StepWaiting
from tailrace_shared.execution.state import fold
from tailrace_shared.ids import new_token
from tailrace_shared.workflow.definition import Definition

EXECUTIONS: Final = int(os.environ.get("PROOF_EXECUTIONS", "500"))
DEATHS: Final = int(os.environ.get("PROOF_DEATHS", "2"))
"""Executions for each way in which one of their steps kills its worker."""
LAST: Final = 20
"""Executions that start after the orders to die. They commit each event that an order names."""

BOUNDARIES: Final = (
    *("execution:started", "step:started", "step:waiting", "step:expanded", "step:retrying"),
    *("step:completed", "execution:paused", "execution:resumed", "execution:finishing"),
    "execution:completed",
)


@pytest.fixture
async def fight(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Campaign]:
    """A campaign with no worker yet."""
    async with campaign(nats_server, tmp_path, seed=1) as opened:
        yield opened


def every_kind() -> Definition:
    """Return a workflow with a step of each kind, an approval, and a ``finally`` group."""
    items = {"type": STEP, "with": {"fails": "${item}"}, "retry": quickly(2)}
    nodes: dict[str, Any] = {
        "first": {"type": STEP, "with": {"die": "${input.die}"}},
        "work": {"type": STEP, "with": {"seconds": 1.0}, "needs": ["first"]},
        "flaky": {"type": STEP, "with": {"fails": 1}, "retry": quickly(2), "needs": ["first"]},
        "actor": {"type": ACTOR, "with": {"die": "${input.actor_dies}"}, "needs": ["first"]},
        "large": {"type": STEP, "with": {"bytes": "${input.bytes}"}, "needs": ["first"]},
        "delay": {"type": "delay", "with": {"duration": "500ms"}, "needs": ["first"]},
        "child": {"type": "workflow", "with": {"id": "child"}, "needs": ["delay"]},
        "each": {
            "type": "map",
            "with": {"for_each": "[0, 1, 0]", "do": items, "max_parallel": 2},
            "needs": ["flaky"],
        },
        "tell": {"type": "emit", "with": {"procedure": "proof.emitted"}, "needs": ["actor"]},
        "approve": {
            "type": "await",
            "with": {"triggers": [PROCEDURE], "match": "event.n == 1"},
            "needs": ["work", "large", "child", "each", "tell"],
        },
        "last": {"type": STEP, "needs": ["approve"]},
    }
    tidy = {"type": STEP, "with": {"die": "${input.tidy_dies}"}}
    free = {"type": ACTOR, "needs": ["tidy"]}
    return checked(
        {
            "id": "every-kind",
            "nodes": nodes,
            "finally": {"nodes": {"tidy": tidy, "free": free}},
            "output": "${nodes.last.output}",
        }
    )


def quickly(attempts: int) -> dict[str, Any]:
    """Return a policy with hardly a pause."""
    return {"max_attempts": attempts, "initial": "10ms"}


def fatal_inputs() -> list[dict[str, Any]]:
    """Return the inputs of executions that kill a worker by one of their steps."""
    ways = [
        {"die": "before effect"},
        {"die": "after effect"},
        {"actor_dies": "before effect"},
        {"actor_dies": "after effect"},
        {"tidy_dies": "before effect"},
        {"tidy_dies": "after effect"},
    ]
    return [way for way in ways for _ in range(DEATHS)]


@pytest.mark.timeout(420)  # a thousand executions, and a second and more for each of many faults
async def test_five_hundred_executions_survive_a_death_at_every_boundary(fight: Campaign):
    """All of them are in flight when the first worker dies."""
    for _ in range(3):
        fight.worker(worker_threads="250", max_deliveries="1000")
    healed = asyncio.Event()
    reviving = asyncio.create_task(fight.revive(healed))
    workflow = await fight.store(every_kind())
    special = fatal_inputs()
    for index in range(EXECUTIONS):
        if index == EXECUTIONS - LAST:
            for event in BOUNDARIES:
                fight.order_death("before", event)
                fight.order_death("after", event)
        chosen = special[index] if index < len(special) else {}
        lives = {"die": "", "actor_dies": "", "tidy_dies": ""}
        size = 300_000 if index % 50 == 49 else 0
        await fight.start(workflow, {**lives, "bytes": size, **chosen})
    await fight.freeze(3.0)
    await fight.kill_nats()
    await approve_all(fight, set(fight.started))
    records = await fight.settled(240)
    healed.set()
    await reviving
    statuses = await fight.check(records)
    assert statuses == Counter({"completed": 2 * EXECUTIONS})
    assert not fight.orders
    # The last death of each worker may not have been noticed yet.
    assert fight.deaths >= 2 * len(BOUNDARIES) - len(fight.workers)
    causes = {
        event.data.cause
        for record in records.values()
        for event in record.events
        if isinstance(event, StepRetrying)
    }
    assert causes >= {"error", "crash"}


async def approve_all(fight: Campaign, executions: set[str]) -> None:
    """Send the trigger that all wait for, once all of them do."""
    waiting: set[str] = set()
    async with fight.watching(b'"node_id":"approve"') as heard:
        while waiting < executions:
            waiting |= {
                execution
                for execution, record in (await fight.insist(fight.records)).items()
                if any(map(awaits_approval, record.events))
            }
            await heard.all_of(executions - waiting)
    key = new_token()
    await fight.insist(lambda: fight.signals.emit(TENANT, PROCEDURE, {"n": 1}, key))


def awaits_approval(event: Event) -> bool:
    """Tell whether an event begins the wait for the approval."""
    return isinstance(event, StepWaiting) and event.data.node_id == "approve"


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_is_an_hour_wrong_moves_no_timer(fight: Campaign, hours: int):
    """One of two workers lives in another hour; what waits does so by the clock of NATS."""
    nodes = {
        "nap": {"type": "delay", "with": {"duration": "4s"}},
        "ask": {"type": "await", "timeout": "6s", "on_timeout": "continue"},
        "again": {
            "type": STEP,
            "with": {"fails": 1},
            "retry": {"max_attempts": 2, "initial": "3s", "jitter": False},
        },
    }
    workflow = await fight.store(checked({"id": "timers", "nodes": nodes}))
    right, wrong = fight.worker(), fight.worker()
    async with fight.watching(b'"type":"step:retrying"') as heard:
        for _ in range(10):
            await fight.start(workflow)
        (fight.folder / "clock").write_text(str(hours * 3600))
        os.kill(wrong.pid, 10)
        for _ in range(10):
            await fight.start(workflow)
        await heard.all_of(set(fight.started))
    # Each worker takes over from the other in the middle of the waits.
    await asyncio.to_thread(right.stop)
    await asyncio.to_thread(right.start)
    records = await fight.settled(100)
    for record in records.values():
        took = {
            event.data.node_id: commit.time - record.commits[0].time
            for commit in record.commits
            for event in commit.events()
            if isinstance(event, StepCompleted)
        }
        assert fold(record.events).status == "completed"
        # However slow the machine is, it is not slow by half an hour.
        assert 4 <= took["nap"] < 1800
        assert 6 <= took["ask"] < 1800
        assert 3 <= took["again"] < 1800
