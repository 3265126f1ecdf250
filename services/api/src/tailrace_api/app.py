"""The composition root: everything that the API is made of, put together once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

import nats.errors
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response

from tailrace_api.access_log import AccessLog
from tailrace_api.auth.configuration import verifier_of
from tailrace_api.auth.gate import Gate
from tailrace_api.auth.ticket_key import ticket_key
from tailrace_api.auth.tickets import Tickets
from tailrace_api.auth.verifier import Verifier
from tailrace_api.clients import ClientCount
from tailrace_api.cors import Cors, allowed_origins
from tailrace_api.fanout.contexts import Contexts
from tailrace_api.fanout.hub import Hub, StreamLimits, StreamTimes
from tailrace_api.fanout.snapshots import Indexes, Snapshots
from tailrace_api.fanout.source import LiveSource
from tailrace_api.fanout.topic import Knowledge, RingBounds
from tailrace_api.foreign_pages import ForeignPages
from tailrace_api.metrics import Metrics
from tailrace_api.problems import EXCEPTION_HANDLERS
from tailrace_api.routes.commands import CommandRoutes
from tailrace_api.routes.dead_letters import DeadLetterRoutes
from tailrace_api.routes.documentation import DocumentationRoutes
from tailrace_api.routes.executions import ExecutionRoutes
from tailrace_api.routes.feed import FeedRoutes
from tailrace_api.routes.health import HealthRoutes
from tailrace_api.routes.multiplex import MultiplexRoutes
from tailrace_api.routes.opening import Opening
from tailrace_api.routes.paused import PausedRoutes
from tailrace_api.routes.pipelines import PipelineRoutes
from tailrace_api.routes.schedules import ScheduleRoutes
from tailrace_api.routes.statistics import StatisticsRoutes
from tailrace_api.routes.streams import StreamRoutes
from tailrace_api.routes.tickets import TicketRoutes
from tailrace_api.routes.triggers import TriggerRoutes
from tailrace_api.routes.workflows import WorkflowRoutes
from tailrace_api.sse.response import come_back_later
from tailrace_shared.bucket import Bucket
from tailrace_shared.commander import Commander
from tailrace_shared.dead_letters import DeadLetters
from tailrace_shared.due_index import DueIndex
from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError
from tailrace_shared.estimators import Estimators
from tailrace_shared.execution_log import ExecutionLog
from tailrace_shared.jetstream import JetStream, connect
from tailrace_shared.live_index import LiveIndex
from tailrace_shared.node_type_store import NodeTypeStore
from tailrace_shared.output_store import OutputStore
from tailrace_shared.result_index import ResultIndex
from tailrace_shared.run_index import RunIndex
from tailrace_shared.run_rate import RunRate
from tailrace_shared.run_starter import RunStarter
from tailrace_shared.schedule_store import ScheduleStore
from tailrace_shared.settings import ApiSettings
from tailrace_shared.signals import Signals
from tailrace_shared.stats_store import StatsStore
from tailrace_shared.subjects import Subjects
from tailrace_shared.topology import KEYS, apply_topology, topology
from tailrace_shared.trigger_store import TriggerStore
from tailrace_shared.waiting_index import WaitingIndex
from tailrace_shared.workflow_store import WorkflowStore

_SAME_RECORD: Final = 5.0
"""Seconds for which runs are estimated by the same record of earlier ones."""

_log = structlog.get_logger("tailrace.api")


class Api(NamedTuple):
    """The parts that a server needs: the ASGI app, and the hub whose streams it must end."""

    app: Starlette
    hub: Hub


class _Notices:
    """What nats-py reports of the connection, passed on to the hub as soon as there is one."""

    def __init__(self) -> None:
        self.hub: Hub | None = None

    async def error(self, error: Exception) -> None:
        if self.hub is None:
            return  # what goes wrong before is said by whoever connects
        if not isinstance(error, nats.errors.SlowConsumerError):
            _log.warning("NATS connection", error=str(error) or repr(error))
        elif self.hub.doubt():
            _log.warning("live commits were dropped", subject=error.subject)

    async def reconnected(self) -> None:
        _log.info("reconnected to NATS")
        if self.hub is not None:
            self.hub.doubt()


@contextlib.asynccontextmanager
async def create_app(settings: ApiSettings) -> AsyncIterator[Api]:
    """Connect to NATS, make sure of the topology, and put the API together.

    Raises:
        StartupError: NATS, what is in it, or the settings do not let the API work.
    """
    allowed_origins(settings)
    async with verifier_of(settings) as verifier, _connected(settings, verifier) as api:
        yield api


@contextlib.asynccontextmanager
async def _connected(settings: ApiSettings, verifier: Verifier | None) -> AsyncIterator[Api]:
    notices = _Notices()
    client = await connect(
        settings, "tailrace-api", error_cb=notices.error, reconnected_cb=notices.reconnected
    )
    try:
        jetstream, subjects = JetStream(client), Subjects(settings.prefix)
        log = ExecutionLog(jetstream, subjects)
        epoch = await _prepare(jetstream, log, settings)
        workflows = WorkflowStore(jetstream, subjects)
        waiting = WaitingIndex(jetstream, subjects)
        contexts = Contexts(log, settings.context_bytes)
        live, results = LiveIndex(jetstream, subjects), ResultIndex(jetstream, subjects)
        snapshots = Snapshots(log, Indexes(live, results, waiting, workflows), contexts)
        hub = notices.hub = Hub(
            Knowledge(log, contexts, snapshots),
            LiveSource(client),
            subjects,
            epoch,
            StreamTimes(
                settings.heartbeat,
                settings.retry,
                settings.stall_timeout,
                settings.max_stream_age,
                settings.lazy_interval,
            ),
            StreamLimits(
                settings.max_streams,
                settings.max_tenant_streams,
                settings.max_replay_reads,
                settings.max_backlog_bytes,
                RingBounds(settings.ring_events, settings.ring_bytes),
            ),
        )
        runs = RunIndex(jetstream, subjects)
        await _adopt(live, runs, settings)
        run_rate = await _run_rate(jetstream, subjects, settings)
        starter = RunStarter(jetstream, subjects, workflows, run_rate)
        # Outputs are put by workers only, so no limit matters here.
        outputs = OutputStore(jetstream, subjects, max_bytes=0)
        due = DueIndex(jetstream, subjects)
        commander = Commander(log, due, starter, workflows)
        triggers = TriggerStore(jetstream, subjects)
        signals = Signals(log, waiting, triggers, due, outputs, starter.advance)
        stats = StatsStore(jetstream, subjects)
        clients = ClientCount(client, subjects, hub)
        await clients.listen()
        metrics = Metrics(hub)
        opening = Opening(settings, hub)
        tickets = Tickets(
            await _ticket_key(jetstream, subjects, settings), settings.ticket_lifetime
        )
        operations = [
            *WorkflowRoutes(settings, workflows, NodeTypeStore(jetstream, subjects)).routes(),
            *ExecutionRoutes(
                settings, log, workflows, runs, starter, outputs, Estimators(stats, _SAME_RECORD)
            ).routes(),
            *CommandRoutes(settings, commander, starter).routes(),
            *PausedRoutes(settings, opening, snapshots, commander, starter).routes(),
            *FeedRoutes(settings, opening).routes(),
            *MultiplexRoutes(settings, opening).routes(),
            *PipelineRoutes(settings, opening, snapshots).routes(),
            *TriggerRoutes(settings, signals, waiting).routes(),
            *StreamRoutes(settings, log, hub, starter).routes(),
            *ScheduleRoutes(settings, ScheduleStore(jetstream, subjects), starter).routes(),
            *TicketRoutes(settings, tickets).routes(),
            *StatisticsRoutes(
                settings, stats, LiveIndex(jetstream, subjects), workflows, clients
            ).routes(),
            *DeadLetterRoutes(DeadLetters(jetstream, subjects)).routes(),
            *HealthRoutes(settings, client, hub, metrics).routes(),
        ]
        app = Starlette(
            routes=[*operations, *DocumentationRoutes(settings, operations).routes()],
            middleware=_middleware(settings, hub, metrics, verifier, tickets),
            exception_handlers=dict(EXCEPTION_HANDLERS),
        )
        # A redirect to the path without its slash would drop the body of a POST.
        app.router.redirect_slashes = False
        async with _running(hub):
            yield Api(app, hub)
    finally:
        await client.close()


def _middleware(
    settings: ApiSettings,
    hub: Hub,
    metrics: Metrics,
    verifier: Verifier | None,
    tickets: Tickets,
) -> list[Middleware]:
    """Return what is around the routes, the outermost first."""

    def later() -> Response:
        return come_back_later(hub.refuse("unavailable"))

    # Outside of everything that answers: a page must be able to read refusals, too.
    cors = [Middleware(Cors, settings=settings)] if settings.cors_origins else []
    return [
        *cors,
        Middleware(AccessLog, metrics=metrics),
        Middleware(ForeignPages, settings=settings),
        Middleware(Gate, verifier=verifier, tickets=tickets, later=later),
    ]


async def _adopt(live: LiveIndex, runs: RunIndex, settings: ApiSettings) -> None:
    try:
        await live.adopt(runs)
    except (UnavailableError, JetStreamError) as error:
        raise StartupError(f"JetStream at {settings.nats_url} does not work: {error}") from None


async def _ticket_key(jetstream: JetStream, subjects: Subjects, settings: ApiSettings) -> bytes:
    try:
        return await ticket_key(Bucket(jetstream, subjects.stream(KEYS)))
    except (UnavailableError, JetStreamError) as error:
        raise StartupError(f"JetStream at {settings.nats_url} does not work: {error}") from None


async def _prepare(jetstream: JetStream, log: ExecutionLog, settings: ApiSettings) -> str:
    try:
        await apply_topology(jetstream, topology(settings))
        return (await log.edge()).epoch
    except (UnavailableError, JetStreamError) as error:
        raise StartupError(f"JetStream at {settings.nats_url} does not work: {error}") from None


async def _run_rate(
    jetstream: JetStream, subjects: Subjects, settings: ApiSettings
) -> RunRate | None:
    if not settings.max_runs_per_minute:
        return None
    run_rate = RunRate(
        jetstream, subjects, settings.max_runs_per_minute, replicas=settings.nats_replicas
    )
    await run_rate.prepare()
    return run_rate


@contextlib.asynccontextmanager
async def _running(hub: Hub) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(hub.watch()), asyncio.create_task(hub.tick())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
