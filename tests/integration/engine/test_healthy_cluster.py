"""Many executions on three healthy NATS nodes: none fails, and no effect happens twice."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from harness.generators.workflows import definition
from harness.nats.cluster import NatsCluster
from harness.nats.listening import until_leader_sends
from harness.processes.installation import TENANT, Installation, installation
from tailrace_shared.commands.execution_commands import Caller, Decision
from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution.commits import decode_commit
from tailrace_shared.execution.events import StepWaiting
from tailrace_shared.execution.state import fold
from tailrace_shared.nats.topology import EVENTS

EXECUTIONS = 200
AT_ONCE = 50
ACTORS = ("a0", "a1", "a2")
CHILD: dict[str, dict[str, Any]] = {
    "c": {"type": "proof.step"},
    "d": {"type": "proof.actor", "needs": ["c"]},
}
PARENT: dict[str, dict[str, Any]] = {
    "slow": {"type": "proof.step", "with": {"seconds": 1.0}},
    "first": {"type": "proof.step"},
    "gate": {"type": "await", "with": {"reason": "approval"}},
    **{actor: {"type": "proof.actor", "needs": ["first"]} for actor in ACTORS},
    "items": {
        "type": "map",
        "needs": ["gate"],
        "with": {"for_each": "[1, 2, 3]", "do": {"type": "proof.actor"}},
    },
    "child": {"type": "workflow", "needs": ["a0"], "with": {"id": "child"}},
    "timer": {"type": "delay", "needs": ["first"], "with": {"duration": "2500ms"}},
    "last": {"type": "proof.step", "needs": ["slow", *ACTORS, "items", "child", "timer"]},
}


@pytest.fixture
async def site(
    nats_cluster: NatsCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    """An installation with three replicas and two workers."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "deaths").mkdir()
    monkeypatch.setenv("PROOF_FOLDER", str(tmp_path))
    async with installation(nats_cluster, tmp_path) as opened:
        for _ in range(2):
            opened.worker(
                nodes="harness.campaigns.proof_nodes", ack_wait="30s", worker_threads="32"
            )
        yield opened


@contextlib.asynccontextmanager
async def decisions_as_actors_begin(site: Installation) -> AsyncIterator[None]:
    """Decide on each gate at the moment at which actor steps of its execution begin to wait."""
    decided: set[str] = set()
    tasks: set[asyncio.Task[None]] = set()

    async def decide(execution: str) -> None:
        decision = Decision("gate")
        # The gate begins to wait in another commit than the actors.
        while True:
            try:
                await site.commander.resolve(TENANT, execution, decision, Caller("julia"))
            except IllegalCommandError:
                await asyncio.sleep(0.02)
            else:
                return

    async def on_commit(message: Msg) -> None:
        execution = message.subject.rpartition(".")[2]
        is_actor = any(
            isinstance(event, StepWaiting) and event.data.node_id in ACTORS
            for event in decode_commit(message.data)
        )
        if is_actor and execution not in decided:
            decided.add(execution)
            tasks.add(asyncio.create_task(decide(execution)))

    subscription = await site.jetstream.client.subscribe(
        site.subjects.tenant_live(TENANT), cb=on_commit
    )
    await until_leader_sends(site.jetstream.client, site.subjects.stream(EVENTS))
    yield
    await subscription.unsubscribe()
    await asyncio.gather(*tasks)


@pytest.mark.timeout(300)
async def test_no_execution_fails_and_no_effect_happens_twice(site: Installation, tmp_path: Path):
    """Actors, slow local steps, decisions, maps, child runs and timers, with no fault injected."""
    await site.store(definition(CHILD, id="child"))
    stored = await site.store(definition(PARENT, id="parent"))
    room = asyncio.Semaphore(AT_ONCE)

    async def run() -> str:
        async with room:
            state = fold(await site.finished(await site.start(stored), timeout=120))
        return f"{state.status}: {state.error}"

    async with decisions_as_actors_begin(site):
        ends = Counter(await asyncio.gather(*(run() for _ in range(EXECUTIONS))))
    assert ends == {"completed: None": EXECUTIONS}
    lines = (tmp_path / "effects").read_text().splitlines()
    effects = Counter(line.split()[1] for line in lines if line.startswith("effect"))
    assert {step: count for step, count in effects.items() if count > 1} == {}
    # slow, first, three actors, three items, two steps of the child run, last
    assert len(effects) == EXECUTIONS * 11
