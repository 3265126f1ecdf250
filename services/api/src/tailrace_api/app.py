"""The composition root: everything that the API is made of, put together once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import nats.errors
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware

from tailrace_api.access_log import AccessLog
from tailrace_api.fanout.hub import Hub, StreamTimes
from tailrace_api.fanout.source import LiveSource
from tailrace_api.fanout.topic import RingBounds
from tailrace_api.problems import EXCEPTION_HANDLERS
from tailrace_api.routes.executions import ExecutionRoutes
from tailrace_api.routes.health import HealthRoutes
from tailrace_api.routes.streams import StreamRoutes
from tailrace_api.routes.workflows import WorkflowRoutes
from tailrace_api.run_starter import RunStarter
from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.jetstream import JetStream, connect
from tailrace_shared.node_type_store import NodeTypeStore
from tailrace_shared.run_index import RunIndex
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import Subjects
from tailrace_shared.topology import apply_topology, topology
from tailrace_shared.workflow_store import WorkflowStore

_log = structlog.get_logger("tailrace.api")


class Api(NamedTuple):
    """The parts that a server needs: the ASGI app, and the hub whose streams it must end."""

    app: Starlette
    hub: Hub


@contextlib.asynccontextmanager
async def create_app(settings: ApiSettings) -> AsyncIterator[Api]:
    """Connect to NATS, make sure of the topology, and put the API together.

    Raises:
        StartupError: NATS or what is in it does not let the API work.
    """
    # The callbacks are needed to connect, and the hub needs the connection.
    hubs: list[Hub] = []

    async def on_error(error: Exception) -> None:
        if not hubs:
            return  # what goes wrong before is said by whoever connects
        if not isinstance(error, nats.errors.SlowConsumerError):
            _log.warning("NATS connection", error=str(error) or repr(error))
        elif hubs[0].doubt():
            _log.warning("live commits were dropped", subject=error.subject)

    async def on_reconnect() -> None:
        _log.info("reconnected to NATS")
        if hubs:
            hubs[0].doubt()

    client = await connect(settings, "tailrace-api", error_cb=on_error, reconnected_cb=on_reconnect)
    try:
        jetstream, subjects = JetStream(client), Subjects(settings.prefix)
        log = ExecutionLog(jetstream, subjects)
        try:
            await apply_topology(jetstream, topology(settings))
            epoch = (await log.edge()).epoch
        except (UnavailableError, JetStreamError) as error:
            raise StartupError(f"JetStream at {settings.nats_url} does not work: {error}") from None
        hub = Hub(
            log,
            LiveSource(client),
            subjects,
            epoch,
            StreamTimes(settings.heartbeat, settings.retry, settings.stall_timeout),
            RingBounds(settings.ring_events, settings.ring_bytes),
        )
        hubs.append(hub)
        workflows = WorkflowStore(jetstream, subjects)
        starter = RunStarter(jetstream, subjects, workflows)
        runs = RunIndex(jetstream, subjects)
        app = Starlette(
            routes=[
                *WorkflowRoutes(settings, workflows, NodeTypeStore(jetstream, subjects)).routes(),
                *ExecutionRoutes(settings, log, workflows, runs, starter).routes(),
                *StreamRoutes(settings, log, hub, starter).routes(),
                *HealthRoutes(client, hub).routes(),
            ],
            middleware=[Middleware(AccessLog)],
            exception_handlers=dict(EXCEPTION_HANDLERS),
        )
        # A redirect to the path without its slash would drop the body of a POST.
        app.router.redirect_slashes = False
        watcher = asyncio.create_task(hub.watch())
        try:
            yield Api(app, hub)
        finally:
            watcher.cancel()
    finally:
        await client.close()
