"""An installation seen from its log: store workflows, start executions, await what they do."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from nats.aio.msg import Msg

from harness.nats_container import AnyNats
from harness.service import Service
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.events import TERMINAL, Event
from tailrace_shared.execution_log import Commit, ExecutionLog
from tailrace_shared.ids import new_execution_id
from tailrace_shared.jetstream import JetStream, connect
from tailrace_shared.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.run_index import RunIndex
from tailrace_shared.settings import WorkerSettings, read_settings
from tailrace_shared.subjects import Subjects
from tailrace_shared.topology import apply_topology, topology
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow_store import StoredWorkflow, WorkflowStore

TENANT = "default"


class Installation:
    """One NATS and whatever services a test starts on it."""

    def __init__(self, jetstream: JetStream, nats: AnyNats, folder: Path) -> None:
        self.jetstream = jetstream
        self.nats = nats
        self.subjects = Subjects()
        self.log = ExecutionLog(jetstream, self.subjects)
        self.workflows = WorkflowStore(jetstream, self.subjects)
        self.runs = RunIndex(jetstream, self.subjects)
        self._folder = folder
        self._services: list[Service] = []

    def worker(self, **settings: str) -> Service:
        """Start a worker; settings are those of ``WorkerSettings``, as texts."""
        return self.service("tailrace_worker", **{"ack_wait": "2s", **settings})

    def service(self, module: str, **settings: str) -> Service:
        """Start a service; it is killed when the test is over."""
        environment = {f"TAILRACE_{key.upper()}": value for key, value in settings.items()}
        log = self._folder / f"{module}-{len(self._services)}.log"
        service = Service(module, {**environment, "NATS_URL": self.nats.url}, log)
        self._services.append(service)
        return service.start()

    def kill_services(self) -> None:
        """End all services that this installation started."""
        for service in self._services:
            service.kill()

    async def store(self, workflow: Definition) -> StoredWorkflow:
        """Store a workflow."""
        return StoredWorkflow(workflow, await self.workflows.put(TENANT, workflow))

    async def start(self, stored: StoredWorkflow, run_input: Any = None) -> str:
        """Start an execution; returns its id."""
        execution = new_execution_id()
        await self.log.create(TENANT, execution, stored, run_input)
        await self.enqueue(execution)
        return execution

    async def enqueue(self, execution: str) -> None:
        """Have a worker drive an execution."""
        job = advance_job(TENANT, execution)
        await self.jetstream.publish(self.subjects.job(EXECUTIONS_QUEUE), job)

    async def commits(self, execution: str) -> list[Commit]:
        """Return all commits of an execution."""
        return [commit async for commit in self.log.read(TENANT, execution)]

    async def events(self, execution: str) -> list[Event]:
        """Return all events of an execution."""
        return [event for commit in await self.commits(execution) for event in commit.events()]

    async def until(
        self, execution: str, seen: Callable[[list[Event]], bool], timeout: float = 30.0
    ) -> list[Event]:
        """Wait until ``seen`` is true of an execution's log; returns the log."""
        moved = asyncio.Event()

        async def heard(_message: Msg) -> None:
            moved.set()

        live = self.subjects.live(TENANT, execution)
        subscription = await self.jetstream.client.subscribe(live, cb=heard)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    # A read that a dying NATS took with it is read again.
                    with contextlib.suppress(UnavailableError):
                        if seen(events := await self.events(execution)):
                            return events
                        await moved.wait()
                        moved.clear()
        finally:
            await subscription.unsubscribe()

    async def finished(self, execution: str, timeout: float = 30.0) -> list[Event]:
        """Wait until an execution has ended; returns its log."""
        return await self.until(execution, lambda events: isinstance(events[-1], TERMINAL), timeout)


@contextlib.asynccontextmanager
async def installation(nats: AnyNats, folder: Path) -> AsyncIterator[Installation]:
    """Open an installation on a NATS server, its topology applied."""
    settings = read_settings(WorkerSettings, {"NATS_URL": nats.url})
    client = await connect(settings, "test")
    opened = Installation(JetStream(client), nats, folder)
    try:
        await apply_topology(opened.jetstream, topology(settings))
        yield opened
    finally:
        opened.kill_services()
        await client.close()
