"""An installation without HTTP: store workflows, start executions, wait for their events."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from nats.aio.msg import Msg

from harness.generators.workflows import definition
from harness.nats.cluster import NatsCluster
from harness.nats.current_reads import current_commits
from harness.nats.deployment import NatsDeployment
from harness.nats.site import create_streams, delete_streams
from harness.processes.service import Service
from tailrace_shared.commands.commands import Commands
from tailrace_shared.errors import UnavailableError
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import TERMINAL, Event
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.ids import new_execution_id, new_token
from tailrace_shared.nats.fenced_append import append
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.nats.topology import EVENTS, WAITING, topology
from tailrace_shared.settings import CommonSettings, WorkerSettings
from tailrace_shared.stores.indexes.start_index import Start
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.log_records import Commit
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.workflow_store import StoredWorkflow
from tailrace_shared.subjects import Subjects
from tailrace_shared.workflow.definition import Definition

TENANT = "default"
PURGED: Final = "$JS.EVENT.ADVISORY.API"
"""The subject of advisories, which alone report that an entry of a bucket was removed."""

_TIMEOUT_S: Final = 240.0
# Read again after this time even without a notification.
_POLL_INTERVAL_S: Final = 0.5

T = TypeVar("T")


class Installation:
    """One NATS, and the services that a test starts on it.

    Args:
        jetstream: a connection to it.
        nats: where it runs.
        settings: those that all services of the installation share.
        folder: where services write their logs.
    """

    def __init__(
        self, jetstream: JetStream, nats: NatsDeployment, settings: CommonSettings, folder: Path
    ) -> None:
        self.jetstream = jetstream
        self.nats = nats
        self.subjects = Subjects(settings.prefix)
        self.stores = Stores.over(jetstream, self.subjects, WorkerSettings().max_output_bytes)
        self.log = self.stores.log
        self.workflows = self.stores.workflows
        self.runs = self.stores.runs
        self.due = self.stores.due
        self.outputs = self.stores.outputs
        self.waiting = self.stores.waiting
        self.triggers = self.stores.triggers
        commands = Commands.over(self.stores, jetstream, self.subjects)
        self.jobs = commands.jobs
        self.starter = commands.starter
        self.commander = commands.executions
        self.signals = commands.signals
        self._settings = settings
        self._folder = folder
        self._services: list[Service] = []

    @property
    def environment(self) -> dict[str, str]:
        """The variables that connect a service to this installation."""
        return {
            "NATS_URL": self._settings.nats_url,
            "TAILRACE_NATS_REPLICAS": str(self._settings.nats_replicas),
            "TAILRACE_PREFIX": self._settings.prefix,
        }

    def worker(self, **settings: str) -> Service:
        """Start a worker; settings are those of ``WorkerSettings``, as strings."""
        return self.service("tailrace_worker", **{"ack_wait": "2s", **settings})

    def service(self, module: str, **settings: str) -> Service:
        """Start a service; it is killed at the end of the test."""
        environment = {f"TAILRACE_{key.upper()}": value for key, value in settings.items()}
        log = self._folder / f"{module}-{len(self._services)}.log"
        service = Service(module, {**environment, **self.environment}, log)
        self._services.append(service)
        return service.start()

    def kill_services(self) -> None:
        """Kill all services that this installation started."""
        for service in self._services:
            service.kill()

    async def store(self, workflow: Definition) -> StoredWorkflow:
        """Store a workflow."""
        return StoredWorkflow(workflow, await self.workflows.put(TENANT, workflow))

    async def prepare(self, nodes: dict[str, Any], run_input: Any = None, **fields: Any) -> str:
        """Create an execution without a job for a worker; return its id."""
        stored, execution = await self.store(definition(nodes, **fields)), new_execution_id()
        await self.log.create(TENANT, execution, stored, run_input)
        return execution

    async def append(self, execution: str, events: Sequence[Event], expected: int) -> None:
        """Append a commit after the sequence ``expected``, as a worker that has since died."""
        (payload,) = encode_commits(events)
        subject = self.subjects.log(TENANT, execution)
        stream = self.subjects.stream(EVENTS)
        await append(
            self.jetstream, stream, subject, payload, expected=expected, writer="dead-worker"
        )

    async def start(self, stored: StoredWorkflow, run_input: Any = None) -> str:
        """Start an execution; return its id."""
        execution = new_execution_id()
        start = Start(execution, stored.version, format_timestamp(time.time()))
        await self.stores.starts.add(TENANT, stored.definition.id, start)
        await self.log.create(TENANT, execution, stored, run_input)
        await self.enqueue(execution)
        return execution

    async def begin(self, nodes: dict[str, Any], run_input: Any = None, **fields: Any) -> str:
        """Store a workflow given by its nodes and start an execution of it; return its id."""
        return await self.start(await self.store(definition(nodes, **fields)), run_input)

    async def run(
        self, nodes: dict[str, Any], run_input: Any = None, **fields: Any
    ) -> ExecutionState:
        """Run a workflow given by its nodes; return its final state with all outputs."""
        execution = await self.begin(nodes, run_input, **fields)
        await self.finished(execution)
        return await self.state(execution)

    async def enqueue(self, execution: str) -> None:
        """Publish the job that makes a worker drive an execution."""
        job = advance_job(TENANT, execution)
        await self.jetstream.publish(self.subjects.job(EXECUTIONS_QUEUE), job)

    async def commits(self, execution: str) -> list[Commit]:
        """Return all commits of an execution, up to the newest of the leader."""
        return await current_commits(self.log, TENANT, execution)

    async def events(self, execution: str) -> list[Event]:
        """Return all events of an execution."""
        return [event for commit in await self.commits(execution) for event in commit.events()]

    async def state(self, execution: str) -> ExecutionState:
        """Fold the log of an execution, and fetch the outputs that are stored by reference."""
        state = (await self.log.load_newest(TENANT, execution)).state
        await self.outputs.fetch(state)
        return state

    async def driver(self, execution: str) -> Service:
        """Return the worker that wrote the last commit; a writer's name has its process id."""
        written = [commit.writer for commit in await self.commits(execution) if commit.writer]
        running = [service for service in self._services if service._process is not None]
        (found,) = [service for service in running if f"-{service.pid}-" in written[-1]]
        return found

    async def until(
        self, execution: str, seen: Callable[[list[Event]], bool], timeout: float = _TIMEOUT_S
    ) -> list[Event]:
        """Wait until ``seen`` is true for an execution's events; return them."""
        live = self.subjects.live(TENANT, execution)
        return await self.until_read(
            [live],
            functools.partial(self.events, execution),
            # In a cluster a replica that lags may not have the beginning yet.
            lambda events: bool(events) and seen(events),
            timeout,
        )

    async def waits(
        self, execution: str, nodes: Collection[str], timeout: float = _TIMEOUT_S
    ) -> list[Waiting]:
        """Wait until the waiting index holds exactly these nodes of an execution."""
        return await self.until_read(
            [f"$KV.{self.subjects.stream(WAITING)}.>", PURGED],
            functools.partial(self.waiting.of_execution, TENANT, execution),
            lambda found: {waiting.node_id for waiting in found} == set(nodes),
            timeout,
        )

    async def until_read(
        self,
        subjects: Sequence[str],
        read: Callable[[], Awaitable[T]],
        seen: Callable[[T], bool],
        timeout: float,
    ) -> T:
        """Read after each message on some subjects, until ``seen`` is true for the result.

        Raises:
            TimeoutError: it is not within ``timeout`` seconds.
        """
        moved = asyncio.Event()

        async def notified(_message: Msg) -> None:
            moved.set()

        client = self.jetstream.client
        subscriptions = [await client.subscribe(subject, cb=notified) for subject in subjects]
        try:
            async with asyncio.timeout(timeout):
                while True:
                    # Repeat a read that failed because NATS stopped.
                    with contextlib.suppress(UnavailableError):
                        if seen(found := await read()):
                            return found
                    # Messages are lost while this connection is down, and a message of a bucket may
                    # arrive before its value can be read.
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(moved.wait(), _POLL_INTERVAL_S)
                    moved.clear()
        finally:
            for subscription in subscriptions:
                await subscription.unsubscribe()

    async def finished(self, execution: str, timeout: float = _TIMEOUT_S) -> list[Event]:
        """Wait until an execution has ended; return its events."""
        return await self.until(execution, lambda events: isinstance(events[-1], TERMINAL), timeout)


@contextlib.asynccontextmanager
async def installation(nats: NatsDeployment, folder: Path) -> AsyncIterator[Installation]:
    """Open an installation and create its streams and buckets.

    Args:
        nats: a server for this installation alone, or a cluster that several share; there the
            installation has a subject prefix of its own.
        folder: where services write their logs.
    """
    is_shared = isinstance(nats, NatsCluster)
    settings = CommonSettings(
        nats_url=nats.url,
        nats_replicas=nats.replicas,
        prefix=f"t-{new_token()[:8]}" if is_shared else "tr",
    )
    client = await connect(settings, "test")
    opened = Installation(JetStream(client), nats, settings, folder)
    specs = topology(settings)
    try:
        await create_streams(opened.jetstream, specs)
        yield opened
    finally:
        opened.kill_services()
        if is_shared:
            await delete_streams(opened.jetstream, specs)
        await client.close()
