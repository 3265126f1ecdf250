"""The cost of commands on executions."""

from collections.abc import AsyncIterator

import pytest

from harness.nats.site import Site
from tailrace_shared.commands.commands import Commands
from tailrace_shared.commands.execution_commands import Decision
from tailrace_shared.execution import events as ev
from tailrace_shared.ids import new_execution_id
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.workflow.definition import Definition, Node

NOW = "2024-01-15T10:30:00.000Z"
WORKFLOW = StoredWorkflow(Definition("w", {"n": Node("await")}), 1)


@pytest.fixture
def stores(site: Site) -> Stores:
    return Stores.over(site.jetstream, site.subjects)


@pytest.fixture
async def execution(site: Site, stores: Stores) -> str:
    """An execution whose only step waits for a signal."""
    execution = new_execution_id()
    await stores.log.create("t", execution, WORKFLOW, {})
    started = ev.ExecutionStarted(ev.Started(execution, "running", NOW), NOW)
    begun = ev.StepStarted(ev.StepBegun("n", "await", "running", 1, NOW), NOW)
    wait = ev.StepWait("n", "await", "waiting", wait="signal", attempt=1)
    await site.commit(execution, started, begun, ev.StepWaiting(wait, NOW))
    return execution


@pytest.mark.parametrize("command", ["cancel", "pause", "resolve", "resume"])
async def test_a_command_reads_and_folds_the_log_once(
    site: Site, stores: Stores, execution: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands.over(stores, site.jetstream, site.subjects).executions
    read, reads = stores.log.read, list[int]()

    def counted(tenant: str, execution: str, first: int = 1) -> AsyncIterator[Commit]:
        reads.append(first)
        return read(tenant, execution, first)

    monkeypatch.setattr(type(stores.log), "read", staticmethod(counted))
    arguments = [Decision(data={"ok": True})] if command == "resolve" else []
    await getattr(commands, command)("t", execution, *arguments)
    assert reads == [1]
    (*_, last) = [commit async for commit in read("t", execution)]
    assert isinstance(last.events()[-1], ev.CommandRequested)
