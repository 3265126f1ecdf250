"""Run the event loop, in its own thread, on which this worker drives its executions.

This is the composition root of the engine. The Dramatiq actor ``advance`` calls
:meth:`Engine.advance` on one of Dramatiq's threads and blocks there until the loop has driven the
execution (``drive/job_holder.py``). Jobs of a tenant that has its fair share of this worker's slots
do not come that far: the gate moves their executions to the tenant's queue (``fairness``).
"""

import asyncio
import contextlib
import os
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import structlog
import uvloop

from tailrace_shared.commands.commands import Commands
from tailrace_shared.commands.live_limits import StartLimits
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.ids import new_token
from tailrace_shared.nats.components import announce
from tailrace_shared.nats.connection.client import NatsClient
from tailrace_shared.nats.health import Health
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.startup import StartupLimit
from tailrace_shared.nats.topology import EVENTS, topology
from tailrace_shared.process.tracing import Tracing
from tailrace_shared.settings import WorkerSettings
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.firing_store import Firing
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.counts import EngineCounts
from tailrace_worker.engine.drive.admission import is_schedule_active
from tailrace_worker.engine.drive.drives import Drives
from tailrace_worker.engine.drive.job_holder import JobHolder
from tailrace_worker.engine.fairness.fair_share import FairShare
from tailrace_worker.engine.fairness.job_gate import JobGate
from tailrace_worker.engine.fairness.tenant_queues import TenantQueues
from tailrace_worker.engine.recovery.catch_up import CATCH_UP_DUTY, CatchUp, CatchUpPeriods
from tailrace_worker.engine.recovery.interval_lease import IntervalLease
from tailrace_worker.engine.recovery.queue_backlog import QueueBacklog
from tailrace_worker.engine.recovery.retention_sweeper import RETENTION_DUTY, RetentionSweeper
from tailrace_worker.engine.recovery.sweeper import Fleet, Periods, Sweeper
from tailrace_worker.engine.recovery.waiting_repair import WaitingRepair
from tailrace_worker.engine.run.attempt import Attempt
from tailrace_worker.engine.run.output_budget import OutputBudget
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.services.liveness import LivenessCheck
from tailrace_worker.engine.services.nats_clock import Clock
from tailrace_worker.engine.services.progress_estimates import Allowance
from tailrace_worker.engine.services.run_statistics import Statistics
from tailrace_worker.engine.services.timers import Timers
from tailrace_worker.engine.tasks.loop_pulse import LoopPulse
from tailrace_worker.engine.tasks.loop_slices import LoopSlices
from tailrace_worker.engine.tasks.supervision import keep_running, run_until_stopped
from tailrace_worker.nodes.emit import make_emit_node
from tailrace_worker.nodes.node import NodeContext, declared_node
from tailrace_worker.nodes.registry import NodeRegistry
from tailrace_worker.secrets.secret_store import SecretStore

_CLOSE_TIMEOUT_S: Final = 2.0
_FLUSH_TIMEOUT_S: Final = 1.0
# Longer than JetStream takes to redeliver the message of a worker that has died.
_ACTOR_CHECK_ACK_WAITS: Final = 2
# How long runs are estimated from the same record of earlier runs.
_ESTIMATOR_TTL_S: Final = 10.0

_log = structlog.get_logger(__name__)


class Engine:
    """Drives executions. Its public methods may be called from any thread.

    Attributes:
        worker_id: names this worker in commits.
        gate: admits jobs to the slots.
        counts: counters of the engine, which its loop updates.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        registry: NodeRegistry,
        secrets: SecretStore,
        tracing: Tracing | None = None,
    ) -> None:
        self._tracing = tracing
        self._settings = settings
        self._registry = registry
        self._secrets = secrets
        self._subjects = Subjects(settings.prefix)
        self.worker_id = _new_worker_id()
        self._loop = uvloop.new_event_loop()
        self._pulse = LoopPulse(self._loop)
        self._thread = threading.Thread(
            target=run_until_stopped, args=[self._loop], name="engine", daemon=True
        )
        self._threads = ThreadPoolExecutor(settings.sync_threads, thread_name_prefix="node")
        self._fair_share = FairShare(settings.worker_threads)
        self.gate = JobGate(self._fair_share, self._is_driving, self._loop)
        self.counts = EngineCounts()
        self._catch_up: CatchUp | None = None
        self._is_draining = False
        self._health: Health | None = None
        self._client: NatsClient
        self._services: EngineServices
        self._drives: Drives
        self._job_holder: JobHolder
        self._clock: Clock
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connect, apply the topology, publish this worker's node types. Idempotent.

        Waits for NATS, within the time limit of the settings.

        Raises:
            StartupError: NATS cannot be reached, or JetStream is not configured as needed.
        """
        if self._thread.is_alive():
            return
        self._thread.start()
        self._loop.call_soon_threadsafe(self._pulse.begin)
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    def advance(
        self, tenant: str, execution: str, stored_at: float | None = None, cause: str = ""
    ) -> None:
        """Drive an execution until it ends, waits for a timer, or this worker stops.

        Args:
            tenant: the tenant of the execution.
            execution: its id.
            stored_at: when JetStream stored the job, in seconds since the epoch; None for a
                redelivery.
            cause: the ``traceparent`` of what published the job; empty if it is not traced.

        Raises:
            UnavailableError: NATS did not answer for long; the job should be tried again.
        """
        asyncio.run_coroutine_threadsafe(
            self._job_holder.hold(tenant, execution, stored_at, cause), self._loop
        ).result()

    def start_run(self, request: RunRequest) -> None:
        """Start a run and enqueue its job, once for each idempotency key.

        Raises:
            WorkflowNotFoundError: the workflow does not exist.
            InvalidInputError: the input does not match the workflow's input schema.
            UnavailableError: NATS did not answer; the job should be tried again.
        """
        asyncio.run_coroutine_threadsafe(self._start_run(request), self._loop).result()

    async def _start_run(self, request: RunRequest) -> None:
        execution: str | None = None
        if request.origin.overlap != "skip" or not await is_schedule_active(
            self._services.commands.gate, request
        ):
            execution = (await self._services.commands.starter.start(request)).execution_id
        schedule, at = request.origin.schedule, request.origin.scheduled_at
        if schedule is not None and at is not None:
            firing = Firing(parse_timestamp(at), execution)
            if self._catch_up is not None:
                # Before the firing is recorded, so that a job that is delivered again goes on.
                await self._catch_up.before(request.tenant, schedule, firing.at)
            await self._services.stores.firings.record(request.tenant, schedule, firing)

    def deliver_trigger(self, tenant: str, sequence: int) -> None:
        """Deliver a stored trigger to all steps that wait for it.

        Raises:
            UnavailableError: NATS did not answer; the job should be tried again.
        """
        asyncio.run_coroutine_threadsafe(
            self._services.commands.signals.deliver_stored(tenant, sequence), self._loop
        ).result()

    @property
    def services(self) -> EngineServices:
        """The services that the engine's parts share; available once the engine has started."""
        return self._services

    @property
    def slots(self) -> dict[str, int]:
        """The number of slots for executions by state, ``busy`` or ``free``."""
        free = self._fair_share.free
        return {"busy": self._settings.worker_threads - free, "free": free}

    @property
    def driving(self) -> int:
        return len(self._drives)

    @property
    def health(self) -> Health | None:
        """The health of NATS; None until it is connected."""
        return self._health

    @property
    def is_draining(self) -> bool:
        """Whether this worker is stopping, and starts no more steps."""
        return self._is_draining

    def is_responsive(self, timeout: float) -> bool:
        """Return whether the event loop answers within ``timeout`` seconds.

        It does not while the function of an asynchronous node blocks it.
        """
        return self._pulse.is_felt(timeout)

    def drain(self) -> None:
        """Start no more steps, and hand executions over.

        Running attempts get ``TAILRACE_DRAIN_GRACE`` to end by themselves.
        """
        self._loop.call_soon_threadsafe(self._drain)

    def stop(self) -> None:
        """Flush statistics, close the connection and stop the loop, after all drives have ended."""
        # An error of a connection that is closed anyway must not keep the process alive.
        with contextlib.suppress(Exception):
            flushing = asyncio.run_coroutine_threadsafe(
                self._services.statistics.flush(), self._loop
            )
            flushing.result(timeout=_FLUSH_TIMEOUT_S)
        with contextlib.suppress(Exception):
            closing = asyncio.run_coroutine_threadsafe(self._client.close(), self._loop)
            closing.result(timeout=_CLOSE_TIMEOUT_S)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_CLOSE_TIMEOUT_S)

    # On the loop

    async def _start(self) -> None:
        limit = StartupLimit(self._settings.nats_connect_timeout)
        name = f"tailrace-worker {self.worker_id}"
        inboxes = Subjects(self._settings.prefix).inboxes("worker")
        self._client = await connect(self._settings, name, limit, inbox_prefix=inboxes)
        jetstream = JetStream(self._client)
        await limit.retry(lambda: self._prepare(jetstream))
        health = Health.over(jetstream, self._settings)
        self._services = services = self._build_services(jetstream)
        await limit.retry(services.limits.descendants.prepare)
        self._drives = Drives(services)
        self._job_holder = JobHolder(
            services,
            self._drives,
            Timers(jetstream, self._subjects, self._clock.now),
            self._settings.ack_wait,
        )
        if (emit := declared_node(make_emit_node(self._emit))) is not None:
            self._registry.add(emit)
        types = [function.type for function in self._registry]
        await limit.retry(lambda: services.stores.node_types.publish(types))
        self.gate.queues = queues = TenantQueues(
            self._fair_share, services.stores, services.commands.jobs
        )
        self._health = health
        loops: dict[str, Callable[[], Awaitable[object]]] = {
            "health": health.run,
            "sweeper": self._sweeper(jetstream).run,
            "retention": self._retention_sweeper().run,
            "waiting index": self._waiting_repair().run,
            "clock": self._clock.run,
            "tenant queues": queues.run,
            "statistics": services.statistics.run,
        }
        if self._settings.catch_up_window > 0:
            self._catch_up = self._build_catch_up()
            loops["catch-up"] = self._catch_up.run
        self._background = [
            self._loop.create_task(keep_running(name, run)) for name, run in loops.items()
        ]
        await announce(self._client, self._subjects, "worker", self.worker_id)
        await services.liveness.answer_for_drives(self.worker_id, self._drives.is_driving)

    async def _prepare(self, jetstream: JetStream) -> None:
        for difference in await ensure(jetstream, topology(self._settings)):
            _log.warning("topology differs", difference=str(difference))
        self._clock = Clock(jetstream, self._subjects.stream(EVENTS))
        await self._clock.synchronize()

    async def _emit(self, ctx: NodeContext, procedure: str, data: Any) -> int:
        marks = ctx.marks("data", data) if isinstance(ctx, Attempt) else ()
        return await self._services.commands.signals.emit(
            ctx.tenant, procedure, data, ctx.idempotency_key, marks
        )

    def _build_services(self, jetstream: JetStream) -> EngineServices:
        subjects, settings = self._subjects, self._settings
        stores = Stores.over(jetstream, subjects, settings.max_output_bytes)
        limits = StartLimits(jetstream, subjects, stores.live, settings)
        slices = LoopSlices(self._loop)
        return EngineServices(
            worker_id=self.worker_id,
            jetstream=jetstream,
            subjects=subjects,
            stores=stores,
            commands=Commands.over(
                stores,
                jetstream,
                subjects,
                limits=limits,
                expression_steps=settings.expression_budget,
            ),
            liveness=LivenessCheck(self._client, subjects, stores.log.is_followed_by_all),
            statistics=Statistics(stores.stats),
            counts=self.counts,
            tracing=self._tracing,
            estimators=EstimatorCache(stores.stats, _ESTIMATOR_TTL_S),
            allowance=Allowance(),
            registry=self._registry,
            runner=Runner(
                self._registry,
                self._threads,
                settings.max_output_bytes,
                self._secrets,
                slices=slices,
            ),
            output_budget=OutputBudget(
                max(settings.max_pending_output_bytes, settings.max_output_bytes),
                max(settings.max_tenant_pending_output_bytes, settings.max_output_bytes),
            ),
            now=self._clock.now,
            is_replicated=settings.nats_replicas > 1,
            actor_check_s=_ACTOR_CHECK_ACK_WAITS * settings.ack_wait,
            limits=limits,
            max_crashes=settings.max_crashes,
            expression_budget=settings.expression_budget,
            cancel_grace=settings.cancel_grace,
            loop=self._loop,
            slices=slices,
        )

    def _sweeper(self, jetstream: JetStream) -> Sweeper:
        fleet = Fleet(
            is_driving=self._services.liveness.is_driven,
            is_queued=self.gate.queues.is_queued,
            jobs=self._services.commands.jobs,
            oldest_waiting=QueueBacklog(jetstream, self._subjects, EXECUTIONS_QUEUE).oldest,
        )
        periods = Periods(self._settings.sweep_interval, self._settings.ack_wait)
        return Sweeper(self._services.stores, fleet, periods, self._clock.now, self.counts)

    def _waiting_repair(self) -> WaitingRepair:
        services, interval = self._services, self._settings.sweep_interval
        return WaitingRepair(services.stores, services.commands.jobs, interval, self._clock.now)

    def _retention_sweeper(self) -> RetentionSweeper:
        stores, settings, clock = self._services.stores, self._settings, self._clock.now
        # A sweep that comes late keeps executions a little longer, a short retention included.
        interval = min(settings.sweep_interval, max(settings.events_max_age / 4, 1.0))
        return RetentionSweeper(
            stores.retention(settings.events_max_age, clock),
            stores.start_pruning(settings.events_max_age, clock),
            stores.start_repair,
            IntervalLease(stores.leases, RETENTION_DUTY, interval, clock),
            interval,
        )

    def _build_catch_up(self) -> CatchUp:
        stores, clock = self._services.stores, self._clock.now
        interval = self._settings.sweep_interval
        return CatchUp(
            stores.schedules,
            stores.firings,
            self._start_run,
            IntervalLease(stores.leases, CATCH_UP_DUTY, interval, clock),
            CatchUpPeriods(interval, self._settings.catch_up_window),
            clock,
        )

    def _drain(self) -> None:
        self._is_draining = True
        for task in self._background:
            task.cancel()
        self._drives.drain(self._settings.drain_grace)

    def _is_driving(self, tenant: str, execution: str) -> bool:
        return self._drives.get(tenant, execution) is not None


def _new_worker_id() -> str:
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:32]
    return f"{host}-{os.getpid()}-{new_token()[:8]}"
