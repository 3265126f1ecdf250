"""The composition root of the API."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Final, NamedTuple

import nats.errors
import structlog
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response

from tailrace_api.auth.authorization import Authorization
from tailrace_api.auth.configuration import verifier_from
from tailrace_api.auth.tickets.ticket_key import ticket_key
from tailrace_api.auth.tickets.tickets import Tickets
from tailrace_api.auth.tokens.verifier import Verifier
from tailrace_api.fanout.clients.client_count import ClientCount
from tailrace_api.fanout.hub import Hub
from tailrace_api.fanout.runtime.limits import RingBounds, StreamLimits, StreamTimes
from tailrace_api.fanout.tenants.contexts import Contexts
from tailrace_api.fanout.tenants.snapshots import Indexes, Snapshots
from tailrace_api.fanout.topics.live_subscription import LiveSubscription
from tailrace_api.fanout.topics.topic import TopicSources
from tailrace_api.http.descriptors import watch_descriptors
from tailrace_api.http.event_stream import come_back_later
from tailrace_api.metrics import Metrics
from tailrace_api.middleware.access_log import AccessLog
from tailrace_api.middleware.cors import Cors, allowed_origins
from tailrace_api.middleware.csrf import CsrfProtection
from tailrace_api.middleware.draining import Draining
from tailrace_api.middleware.pending_bodies import PendingBodies
from tailrace_api.middleware.request_turns import RequestTurns
from tailrace_api.routes.commands.bulk import BulkRoutes
from tailrace_api.routes.commands.commands import CommandRoutes
from tailrace_api.routes.commands.triggers import TriggerRoutes
from tailrace_api.routes.dashboard import DashboardRoutes
from tailrace_api.routes.dead_letters import DeadLetterRoutes
from tailrace_api.routes.documentation import DocumentationRoutes
from tailrace_api.routes.executions import ExecutionRoutes
from tailrace_api.routes.front_ends.paused import PausedRoutes
from tailrace_api.routes.front_ends.pipelines import PipelineRoutes
from tailrace_api.routes.health import HealthRoutes
from tailrace_api.routes.me import MeRoutes
from tailrace_api.routes.node_types import NodeTypeRoutes
from tailrace_api.routes.schedule_commands import ScheduleCommandRoutes
from tailrace_api.routes.schedules import ScheduleRoutes
from tailrace_api.routes.statistics import StatisticsRoutes
from tailrace_api.routes.steps import StepRoutes
from tailrace_api.routes.streams.executions import StreamRoutes
from tailrace_api.routes.streams.opening import Opening
from tailrace_api.routes.streams.tenant import TenantStreamRoutes
from tailrace_api.routes.tickets import TicketRoutes
from tailrace_api.routes.workers import WorkerRoutes
from tailrace_api.routes.workflows import WorkflowRoutes
from tailrace_api.web.operation import Operation, collect_operations
from tailrace_api.web.problems import EXCEPTION_HANDLERS
from tailrace_shared.commands.commands import Commands
from tailrace_shared.commands.live_limits import StartLimits
from tailrace_shared.commands.schedule_commands import ScheduleCommands
from tailrace_shared.commands.start_rate_limit import MessageRateLimit, StartRateLimit
from tailrace_shared.commands.workflow_schedules import WorkflowSchedules
from tailrace_shared.installation.demand import DemandReader
from tailrace_shared.installation.probe import InstallationProbe
from tailrace_shared.nats.components import announce
from tailrace_shared.nats.health import Health
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.nats.topology import topology
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.process.tracing import Tracing, start_tracing
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import ApiSettings
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.log_records import LogEdge
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects

_ESTIMATOR_TTL_S: Final = 5.0
"""How long runs are estimated from the same history of earlier ones."""

_log = structlog.get_logger("tailrace.api")


class Api(NamedTuple):
    """The parts that a server needs.

    Attributes:
        hub: The hub, whose streams a shutdown drains.
        metrics: The metrics, which also count requests that never reach the application.
        internal: The probes and metrics alone, for the internal port.
    """

    app: Starlette
    hub: Hub
    metrics: Metrics
    internal: Starlette


class _ConnectionCallbacks:
    """Callbacks of the NATS client. They ask the hub to reconcile once it exists."""

    def __init__(self) -> None:
        self.hub: Hub | None = None

    async def error(self, error: Exception) -> None:
        if self.hub is None:
            return  # errors during the first connect are raised by connect()
        if not isinstance(error, nats.errors.SlowConsumerError):
            _log.warning("NATS connection error", error=str(error) or repr(error))
        elif self.hub.request_reconcile():
            _log.warning("live commits were dropped", subject=error.subject)

    async def reconnected(self) -> None:
        _log.info("reconnected to NATS")
        if self.hub is not None:
            self.hub.request_reconcile()


@contextlib.asynccontextmanager
async def create_app(settings: ApiSettings) -> AsyncIterator[Api]:
    """Connect to NATS, apply the topology, and build the API. Wait for NATS until it is ready.

    Raises:
        StartupError: NATS, its configuration or the settings prevent the start.
    """
    allowed_origins(settings)
    tracing = start_tracing("api", redact_credentials)
    try:
        async with (
            verifier_from(settings) as verifier,
            _connected(settings, verifier, tracing) as api,
        ):
            yield api
    finally:
        if tracing is not None:
            await asyncio.to_thread(tracing.shutdown)


@contextlib.asynccontextmanager
async def _connected(
    settings: ApiSettings, verifier: Verifier | None, tracing: Tracing | None
) -> AsyncIterator[Api]:
    callbacks, limit = _ConnectionCallbacks(), StartupLimit(settings.nats_connect_timeout)
    client = await connect(
        settings,
        "tailrace-api",
        limit,
        read_interval=settings.delivery_interval,
        inbox_prefix=Subjects(settings.prefix).inboxes("api"),
        error_cb=callbacks.error,
        reconnected_cb=callbacks.reconnected,
    )
    try:
        jetstream, subjects = JetStream(client), Subjects(settings.prefix)
        stores = Stores.over(jetstream, subjects)
        rate_limit = _rate_limit(jetstream, subjects, settings)
        message_rate = _message_rate(jetstream, subjects, settings)
        limits = StartLimits(jetstream, subjects, stores.live, settings)
        commands = Commands.over(
            stores, jetstream, subjects, rate_limit, limits, settings.expression_budget
        )
        edge, key = await limit.retry(
            lambda: _prepare(jetstream, stores, (rate_limit, message_rate), settings)
        )
        knowledge = _knowledge(stores, settings)
        hub = callbacks.hub = _hub(knowledge, LiveSubscription(client), subjects, edge, settings)
        hub.runtime.tracing = tracing
        clients = ClientCount(client, subjects, hub.quota.of_tenant)
        await clients.listen()
        await announce(client, subjects, "api", f"{socket.gethostname()}-{os.getpid()}")
        nats_health = Health.over(jetstream, settings)
        demand = DemandReader(jetstream, subjects, stores)
        probe = InstallationProbe(jetstream, settings, demand)
        metrics = Metrics(hub, nats_health, probe)
        tickets = Tickets(key, settings.ticket_lifetime)
        health = HealthRoutes(settings, nats_health, hub, metrics)
        workers = WorkerRoutes(demand)
        operations = [
            *_operations(stores, commands, knowledge.snapshots, hub, message_rate, settings),
            *collect_operations(
                TicketRoutes(settings, tickets),
                StatisticsRoutes(settings, stores.stats, stores.live, stores.workflows, clients),
                health,
                workers,
                DashboardRoutes(),
            ),
            *([] if settings.internal_port else [health.exposition()]),
        ]
        app = Starlette(
            routes=[*operations, *collect_operations(DocumentationRoutes(settings, operations))],
            middleware=_middleware(
                settings, hub, metrics, verifier, tickets, tracing, commands.threads
            ),
            exception_handlers=dict(EXCEPTION_HANDLERS),
        )
        # A redirect to the path without its slash would drop the body of a POST.
        app.router.redirect_slashes = False
        async with _running(hub, nats_health, probe):
            internal = Starlette(routes=[*health.internal(), *workers.internal()])
            yield Api(app, hub, metrics, internal)
    finally:
        await client.close()


async def _prepare(
    jetstream: JetStream,
    stores: Stores,
    rate_limits: tuple[StartRateLimit | None, MessageRateLimit | None],
    settings: ApiSettings,
) -> tuple[LogEdge, bytes]:
    """Apply the topology and adopt older runs; return the log's edge and the ticket key."""
    for difference in await ensure(jetstream, topology(settings)):
        _log.warning("topology differs", difference=str(difference))
    for rate_limit in rate_limits:
        if rate_limit is not None:
            await rate_limit.prepare()
    await stores.live.backfill(stores.runs)
    key = await ticket_key(stores.keys)
    return await stores.log.edge(), key


def _rate_limit(
    jetstream: JetStream, subjects: Subjects, settings: ApiSettings
) -> StartRateLimit | None:
    per_minute = settings.max_runs_per_minute
    if not per_minute:
        return None
    return StartRateLimit(jetstream, subjects, per_minute, replicas=settings.nats_replicas)


def _message_rate(
    jetstream: JetStream, subjects: Subjects, settings: ApiSettings
) -> MessageRateLimit | None:
    per_minute = settings.max_messages_per_minute
    if not per_minute:
        return None
    return MessageRateLimit(jetstream, subjects, per_minute, replicas=settings.nats_replicas)


def _knowledge(stores: Stores, settings: ApiSettings) -> TopicSources:
    contexts = Contexts(stores.log, settings.context_bytes)
    indexes = Indexes(
        stores.live,
        stores.results,
        stores.waiting,
        stores.workflows,
        stores.starts,
        stores.runs,
        stores.stats,
    )
    snapshots = Snapshots(stores.log, indexes, contexts)
    return TopicSources(stores.log, contexts, snapshots, stores.horizons)


def _hub(
    knowledge: TopicSources,
    source: LiveSubscription,
    subjects: Subjects,
    edge: LogEdge,
    settings: ApiSettings,
) -> Hub:
    hub = Hub(
        knowledge,
        source,
        subjects,
        edge.epoch,
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
            settings.max_topic_bytes,
            settings.max_tenant_topic_bytes,
        ),
    )
    hub.runtime.lost = edge.lost
    return hub


def _operations(
    stores: Stores,
    commands: Commands,
    snapshots: Snapshots,
    hub: Hub,
    message_rate: MessageRateLimit | None,
    settings: ApiSettings,
) -> list[Operation]:
    log, workflows, starter = stores.log, stores.workflows, commands.starter
    schedules = ScheduleRoutes(settings, stores.schedules, stores.firings, starter)
    opening, estimators = Opening(settings, hub), EstimatorCache(stores.stats, _ESTIMATOR_TTL_S)
    return collect_operations(
        WorkflowRoutes(
            settings,
            workflows,
            WorkflowSchedules(stores.schedules, commands.threads),
            stores.node_types,
            commands.threads,
        ),
        NodeTypeRoutes(stores.node_types),
        ExecutionRoutes(
            settings, log, workflows, stores.run_list, starter, stores.outputs, estimators
        ),
        CommandRoutes(settings, hub, commands.executions, starter),
        BulkRoutes(settings, stores.run_list, commands.executions, starter),
        PausedRoutes(settings, hub, opening, snapshots, commands.executions, starter),
        TenantStreamRoutes(settings, hub, opening, stores.messages, message_rate),
        PipelineRoutes(settings, opening, snapshots),
        TriggerRoutes(settings, commands.signals, stores.waiting),
        StreamRoutes(settings, hub, starter, opening),
        schedules,
        ScheduleCommandRoutes(settings, schedules, ScheduleCommands(stores.schedules, starter)),
        DeadLetterRoutes(stores.dead_letters),
        MeRoutes(settings),
        StepRoutes(settings, log, workflows, stores.outputs),
    )


def _middleware(
    settings: ApiSettings,
    hub: Hub,
    metrics: Metrics,
    verifier: Verifier | None,
    tickets: Tickets,
    tracing: Tracing | None,
    threads: FairThreads,
) -> list[Middleware]:
    """Return the middleware, outermost first."""

    def retry_later(reason: str) -> Response:
        return come_back_later(reason, hub.refuse(reason))

    # CORS is outside of the rest, so that pages can read errors, too.
    cors = [Middleware(Cors, settings=settings)] if settings.cors_origins else []
    return [
        Middleware(Draining, is_draining=lambda: hub.is_draining),
        *cors,
        Middleware(AccessLog, metrics=metrics, tracing=tracing),
        Middleware(CsrfProtection, settings=settings),
        Middleware(
            Authorization,
            verifier=verifier,
            tickets=tickets,
            retry_later=partial(retry_later, "unavailable"),
        ),
        Middleware(PendingBodies, settings=settings, threads=threads),
        # Inside of the bodies, so that they are counted while requests wait.
        Middleware(RequestTurns, settings=settings, retry_later=partial(retry_later, "busy")),
    ]


@contextlib.asynccontextmanager
async def _running(hub: Hub, health: Health, probe: InstallationProbe) -> AsyncIterator[None]:
    loops = (hub.reconcile_loop(), hub.runtime.tick(), health.run(), watch_descriptors())
    tasks = [asyncio.create_task(loop) for loop in (*loops, probe.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
