"""Executions that break the engine itself: they are failed, and leave nothing behind."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import of
from harness.processes.installation import TENANT, Installation
from tailrace_shared.commands.concurrency_gate import ConcurrencyGate
from tailrace_shared.execution.events import TERMINAL, Command, CommandRequested, Event, StepWaiting
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.jetstream import JetStream, StoredMessage
from tailrace_shared.nats.topology import EVENTS
from tailrace_shared.process.settings_reader import read_settings
from tailrace_shared.settings import WorkerSettings
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.log_records import Commit
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.engine.drive.lifecycle import Lifecycle
from tailrace_worker.engine.engine import Engine
from tailrace_worker.nodes.registry import load_registry
from tailrace_worker.secrets.secret_store import SecretStore

MOST_BREAKS = 5
LIES = 2
"""A read of the newest commit, and the same read once more."""


@pytest.fixture
async def engine(site: Installation) -> AsyncIterator[Engine]:
    """An engine in this process; no worker consumes its jobs."""
    settings = read_settings(WorkerSettings, site.environment)
    started = Engine(settings, load_registry(""), SecretStore())
    await asyncio.to_thread(started.start)
    yield started
    started.drain()
    await asyncio.to_thread(started.stop)


@pytest.fixture
async def parent(site: Installation, engine: Engine) -> str:
    """An execution that waits for a child run, and is the only one that may run at once."""
    await site.store(definition({"x": {"with": {"duration": "1h"}}}, id="child"))
    execution = await begin(site)
    await asyncio.to_thread(engine.advance, TENANT, execution)
    return execution


async def begin(site: Installation) -> str:
    """Start an execution of which only one may run at once."""
    nodes = {"c": {"type": "workflow", "with": {"id": "child"}}}
    return await site.begin(nodes, concurrency={"limit": 1})


async def child_of(site: Installation, parent: str) -> str:
    """Return the child run that an execution waits for."""
    (wait,) = of(await site.events(parent), StepWaiting, "c")
    return str(wait.child_execution_id)


def break_the_drive_of(execution: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the scheduler of one execution raise what it never should."""
    decide = Scheduler.decide

    def broken(self: Scheduler, now: float) -> list[Event]:
        if self.state.execution_id == execution:
            raise LookupError("a step that is not there")
        return decide(self, now)

    monkeypatch.setattr(Scheduler, "decide", broken)


async def give_up_on(execution: str, engine: Engine) -> None:
    """Give the engine an execution that it cannot drive, as often as it tries."""
    for _ in range(MOST_BREAKS - 1):
        with pytest.raises(LookupError):
            await asyncio.to_thread(engine.advance, TENANT, execution)
    await asyncio.to_thread(engine.advance, TENANT, execution)


async def test_an_execution_that_breaks_the_engine_fails(
    site: Installation, engine: Engine, parent: str, monkeypatch: pytest.MonkeyPatch
):
    """The first error does not fail it: its cause may be this worker, or temporary."""
    break_the_drive_of(parent, monkeypatch)
    await give_up_on(parent, engine)
    state = await site.state(parent)
    assert state.status == "failed"
    assert state.error == "internal error: LookupError: a step that is not there"
    assert state.steps["c"].status == "cancelled"


async def test_its_child_runs_are_cancelled(
    site: Installation, engine: Engine, parent: str, monkeypatch: pytest.MonkeyPatch
):
    """No step waits for them any more."""
    break_the_drive_of(parent, monkeypatch)
    await give_up_on(parent, engine)
    child = await child_of(site, parent)
    await asyncio.to_thread(engine.advance, TENANT, child)
    state = await site.state(child)
    assert (state.status, state.error) == ("cancelled", f"its parent {parent} failed")


async def test_its_concurrency_slot_goes_to_the_next_in_the_queue(
    site: Installation, engine: Engine, parent: str, monkeypatch: pytest.MonkeyPatch
):
    """The workflow's limit does not depend on the sweeper."""
    following = await begin(site)
    await asyncio.to_thread(engine.advance, TENANT, following)
    assert (await site.state(following)).status == "queued"
    break_the_drive_of(parent, monkeypatch)
    await give_up_on(parent, engine)
    # Otherwise one that finds no place looks whether those that have one have ended.
    monkeypatch.setattr(ConcurrencyGate, "_has_ended", _never)
    await asyncio.to_thread(engine.advance, TENANT, following)
    assert (await site.state(following)).status == "running"


async def test_a_command_that_comes_before_the_first_turn_is_read(
    site: Installation, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """The drive decides to cancel a queued run, while a client asks for the same."""
    execution = await site.begin({"x": {}})
    asked = list[str]()

    async def cancelled_meanwhile(_: Lifecycle, state: ExecutionState) -> str:
        if not asked:
            asked.append(state.execution_id)
            commits = await site.commits(execution)
            data = Command(execution, "cancel", "c1")
            command = CommandRequested(data, format_timestamp(time.time()))
            await site.append(execution, [command], commits[-1].sequence)
        return "its-root"

    monkeypatch.setattr(Lifecycle, "_ended_ancestor", cancelled_meanwhile)
    await asyncio.to_thread(engine.advance, TENANT, execution)
    assert asked == [execution]
    assert (await site.state(execution)).status == "cancelled"


async def test_a_drive_does_not_begin_on_a_lagging_replica(
    site: Installation, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """A replica that lags shows a step as running whose execution has ended."""
    execution = await site.begin({"x": {}})
    await asyncio.to_thread(engine.advance, TENANT, execution)
    commits = await site.commits(execution)
    assert isinstance(commits[-1].events()[-1], TERMINAL)
    engine.services.is_replicated = True
    read, reads = ExecutionLog.read, list[int]()

    async def lagging(
        self: ExecutionLog, tenant: str, execution: str, from_sequence: int = 1
    ) -> AsyncIterator[Commit]:
        reads.append(from_sequence)
        async for commit in read(self, tenant, execution, from_sequence):
            if len(reads) > 1 or commit.sequence < commits[-1].sequence:
                yield commit

    monkeypatch.setattr(ExecutionLog, "read", lagging)
    await asyncio.to_thread(engine.advance, TENANT, execution)
    assert len(reads) > 1
    assert await site.commits(execution) == commits


async def test_a_leader_with_a_full_disk_does_not_make_an_execution_vanish(
    site: Installation, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    """Before it gives up it says that there is no message. The job is kept until it can tell."""
    execution = await site.begin({"x": {}})
    get, answers = JetStream._get_from_leader, list[str]()

    async def broken(
        self: JetStream, stream: str, request: dict[str, Any], *others: Any
    ) -> StoredMessage | None:
        if stream == site.subjects.stream(EVENTS) and len(answers) < LIES:
            answers.append(stream)
            return None
        return await get(self, stream, request, *others)

    monkeypatch.setattr(JetStream, "_get_from_leader", broken)
    engine.services.is_replicated = True
    await asyncio.to_thread(engine.advance, TENANT, execution)
    assert len(answers) == LIES
    assert isinstance((await site.events(execution))[-1], TERMINAL)


async def _never(*_: object) -> bool:
    return False
