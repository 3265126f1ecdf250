"""The engine: one event loop in a thread, on which this worker drives its executions.

A job (the Dramatiq actor ``advance``) waits on one of Dramatiq's threads for a drive on this
loop. Jobs may be delivered twice, and a request of the API sends one although a worker may be
driving: so before an execution is taken over, the worker that wrote last is asked whether it is
still at it. A worker that is gone does not answer (NATS says so at once), and a stopped one not in
time. The question only spares needless work; what makes a second driver harmless is the fence.
"""

import asyncio
import contextlib
import dataclasses
import os
import re
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import nats.errors
import structlog
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.commands.commands import Commands
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    JetStreamError,
    NewerLogError,
    StartupError,
    UnavailableError,
)
from tailrace_shared.ids import new_token
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import EVENTS, topology
from tailrace_shared.settings import WorkerSettings
from tailrace_shared.stores.estimator_cache import EstimatorCache
from tailrace_shared.stores.execution_log import History
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.driver import Drive
from tailrace_worker.engine.fairness.fair_share import FairShare
from tailrace_worker.engine.fairness.tenant_queues import TenantQueues
from tailrace_worker.engine.run.attempt import Attempt
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.services.nats_clock import Clock
from tailrace_worker.engine.services.progress_estimates import Allowance
from tailrace_worker.engine.services.queue_backlog import QueueBacklog
from tailrace_worker.engine.services.run_statistics import Statistics
from tailrace_worker.engine.services.sweeper import Fleet, Periods, Sweeper
from tailrace_worker.engine.services.timers import Timers
from tailrace_worker.engine.tasks.execution_cache import execution_cache, memory_of
from tailrace_worker.nodes.emit import make_emit_node
from tailrace_worker.nodes.node import NodeContext, declared_node
from tailrace_worker.nodes.registry import NodeRegistry
from tailrace_worker.secrets.secret_store import SecretStore

_ANSWER_TIMEOUT: Final = 1.0
_CLOSE_TIMEOUT: Final = 2.0
_FLUSH_TIMEOUT: Final = 1.0
_SHORTEST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 1.0
_FOR_NEWER_WORKERS: Final = 5.0
_ESTIMATOR_TTL_S: Final = 10.0
"""How long runs are estimated from the same history of earlier ones."""
_MOST_BREAKS: Final = 5
_YES: Final = b"1"
_NO: Final = b"0"

_log = structlog.get_logger(__name__)


class Engine:
    """Drives executions. Its public methods may be called from any thread."""

    def __init__(
        self, settings: WorkerSettings, registry: NodeRegistry, secrets: SecretStore
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._secrets = secrets
        self._subjects = Subjects(settings.prefix)
        self.worker_id = _new_worker_id()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._threads = ThreadPoolExecutor(settings.sync_threads, thread_name_prefix="node")
        self._share = FairShare(settings.worker_threads)
        self._drives: dict[tuple[str, str], Drive] = {}
        # Drives that have left their execution to wait, until a moment ago.
        self._left: TtlCache[tuple[str, str], Drive] = execution_cache(self._loop.call_later)
        # What was read of executions that another worker turned out to drive.
        self._read: TtlCache[tuple[str, str], History] = execution_cache(self._loop.call_later)
        # How often the drive of an execution has broken in a row.
        self._broken: Counter[tuple[str, str]] = Counter()
        self._is_draining = False
        self._client: Client
        self._env: EngineServices
        self._timers: Timers
        self._tenant_lines: TenantQueues
        self._clock: Clock
        self._chores: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Connect, apply the topology, make this worker's node types known. Once is enough.

        Raises:
            StartupError: NATS is not there, or not as Tailrace needs it.
        """
        if self._thread.is_alive():
            return
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except (UnavailableError, JetStreamError) as error:
            raise StartupError(
                f"JetStream at {self._settings.nats_url} does not work: {error}"
            ) from None

    def advance(self, tenant: str, execution: str) -> None:
        """Drive an execution until it ends, waits for a timer, or this worker stops.

        Raises:
            UnavailableError: NATS did not answer for long; the job should be tried again.
        """
        asyncio.run_coroutine_threadsafe(self._advance(tenant, execution), self._loop).result()

    def start_run(self, request: RunRequest) -> None:
        """Start a run and give it to the workers; once for each idempotency key.

        Raises:
            WorkflowNotFoundError, InvalidInputError: there can be no such run.
            UnavailableError: NATS did not answer; the job should be tried again.
        """
        asyncio.run_coroutine_threadsafe(
            self._env.commands.starter.start(request), self._loop
        ).result()

    @property
    def environment(self) -> EngineServices:
        """What the engine's parts share; there once the engine has started."""
        return self._env

    @property
    def driving(self) -> int:
        """How many executions this worker drives now."""
        return len(self._drives)

    @property
    def is_connected(self) -> bool:
        """Whether NATS is there."""
        return self._client.is_connected

    @property
    def is_draining(self) -> bool:
        """Whether this worker starts no more steps."""
        return self._is_draining

    def is_responsive(self, patience: float) -> bool:
        """Tell whether the loop answers within ``patience`` seconds.

        It does not where the function of an asynchronous node blocks.
        """
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return answered.wait(patience)

    def drain(self) -> None:
        """Start no more steps; what runs gets its grace, then executions are handed over."""
        self._loop.call_soon_threadsafe(self._drain)

    def stop(self) -> None:
        """Close the connection and end the loop. All drives must have ended."""
        # Whatever goes wrong with a connection that is given up anyway must not keep the process.
        with contextlib.suppress(Exception):
            flushing = asyncio.run_coroutine_threadsafe(self._env.statistics.flush(), self._loop)
            flushing.result(timeout=_FLUSH_TIMEOUT)
        with contextlib.suppress(Exception):
            closing = asyncio.run_coroutine_threadsafe(self._client.close(), self._loop)
            closing.result(timeout=_CLOSE_TIMEOUT)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=_CLOSE_TIMEOUT)

    # On the loop

    async def _start(self) -> None:
        self._client = await connect(self._settings, name=f"tailrace-worker {self.worker_id}")
        jetstream = JetStream(self._client)
        for difference in await ensure(jetstream, topology(self._settings)):
            _log.warning("topology differs", difference=str(difference))
        self._clock = Clock(jetstream, self._subjects.stream(EVENTS))
        await self._clock.set()
        self._timers = Timers(jetstream, self._subjects, self._clock.now)
        self._env = self._environment(jetstream)
        if (emit := declared_node(make_emit_node(self._emit))) is not None:
            self._registry.add(emit)
        await self._env.stores.node_types.publish(function.type for function in self._registry)
        self._tenant_lines = TenantQueues(
            self._share, self._env.stores, self._env.commands.jobs, self._clock.now
        )
        self._chores = [
            self._loop.create_task(self._sweeper(jetstream).run()),
            self._loop.create_task(self._clock.run()),
            self._loop.create_task(self._tenant_lines.run()),
            self._loop.create_task(self._env.statistics.run()),
        ]
        await self._client.subscribe(
            self._subjects.worker(self.worker_id), cb=self._answer_whether_driving
        )

    async def _emit(self, ctx: NodeContext, procedure: str, data: Any) -> int:
        marks = ctx.marks("data", data) if isinstance(ctx, Attempt) else ()
        return await self._env.commands.signals.emit(
            ctx.tenant, procedure, data, ctx.idempotency_key, marks
        )

    def _environment(self, jetstream: JetStream) -> EngineServices:
        subjects, settings = self._subjects, self._settings
        stores = Stores.over(jetstream, subjects, settings.max_output_bytes)
        return EngineServices(
            worker_id=self.worker_id,
            jetstream=jetstream,
            subjects=subjects,
            stores=stores,
            commands=Commands.over(stores, jetstream, subjects),
            statistics=Statistics(stores.stats),
            estimators=EstimatorCache(stores.stats, _ESTIMATOR_TTL_S),
            allowance=Allowance(),
            registry=self._registry,
            runner=Runner(self._registry, self._threads, settings.max_output_bytes, self._secrets),
            now=self._clock.now,
            max_crashes=settings.max_crashes,
            cancel_grace=settings.cancel_grace,
            loop=self._loop,
        )

    def _sweeper(self, jetstream: JetStream) -> Sweeper:
        fleet = Fleet(
            is_driving=self._asks_whether_driving,
            jobs=self._env.commands.jobs,
            oldest_waiting=QueueBacklog(jetstream, self._subjects, EXECUTIONS_QUEUE).oldest,
        )
        periods = Periods(self._settings.sweep_interval, self._settings.ack_wait)
        return Sweeper(self._env.stores, fleet, periods, self._clock.now)

    def _drain(self) -> None:
        self._is_draining = True
        for chore in self._chores:
            chore.cancel()
        for drive in self._drives.values():
            drive.drain(self._settings.drain_grace)

    async def _advance(self, tenant: str, execution: str) -> None:
        """Drive an execution, or have it stand in line while its tenant has its share."""
        is_driven = (tenant, execution) in self._drives
        if is_driven or self._is_draining or self._share.admits(tenant):
            with self._share.one_more(tenant):
                await self._hold(tenant, execution)
            if not self._is_draining:
                await self._tenant_lines.call_next(tenant)
        else:
            await self._tenant_lines.join(tenant, execution)

    async def _hold(self, tenant: str, execution: str) -> None:
        """Hold one job for an execution until it need not be held.

        A job is what brings an execution back after a crash, so it is given up only when the
        execution has ended, or another job stands for it: a timer, a hand-over, or a watch while
        it is not clear whose job keeps whom.
        """
        pause = _SHORTEST_PAUSE
        while True:
            try:
                result = await self._drive_or_fail(tenant, execution)
                if await self._is_settled(tenant, execution, result):
                    return
                pause = _SHORTEST_PAUSE
            except NewerLogError as error:
                # In the middle of a rolling deployment: a newer worker is about to take it.
                _log.info("left to newer workers", execution=execution, error=str(error))
                await self._timers.advance_at(
                    tenant, execution, self._env.now() + _FOR_NEWER_WORKERS
                )
                return
            except UnavailableError as error:
                # Given back as failed, the job would need the very NATS that is away.
                if self._is_draining:
                    raise
                _log.warning("waiting for NATS", execution=execution, error=str(error))
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)

    async def _drive_or_fail(self, tenant: str, execution: str) -> DriveResult:
        """Drive an execution; one that breaks the engine again and again is failed.

        Otherwise it would be tried for ever, and nobody who watches it would learn why.
        """
        key = (tenant, execution)
        try:
            result = await self._drive_once(tenant, execution)
        except (UnavailableError, NewerLogError, JetStreamError):
            raise
        except Exception as error:
            self._broken[key] += 1
            _log.exception("drive broke", tenant=tenant, execution=execution)
            if self._broken[key] < _MOST_BREAKS:
                raise
            message = f"internal error: {type(error).__name__}: {error}"
            result = await self._fail(tenant, execution, message)
        self._broken.pop(key, None)
        return result

    async def _fail(self, tenant: str, execution: str, message: str) -> DriveResult:
        history = await self._env.stores.log.load(tenant, execution)
        had_ended = history.state.is_terminal
        result = await Drive(self._env, tenant, execution).fail(history, message)
        # What it leaves beside its log, a drive that finds it ended clears away; if that breaks
        # as well, it stays.
        return result if had_ended else dataclasses.replace(result, end=End.ASKED)

    async def _is_settled(self, tenant: str, execution: str, result: DriveResult) -> bool:
        """Leave another job behind where the execution needs one; False if it must be driven on."""
        match result.end:
            case End.FINISHED | End.GONE:
                return True
            case End.ASKED:
                return False
            case End.HANDED_OVER:
                await self._env.commands.jobs.advance(tenant, execution)
                return True
            case End.DISPLACED:
                # This job and the other worker's may be one message: with this delivery
                # acknowledged nothing would bring the execution back if that worker died.
                watch = self._env.now() + 2 * self._settings.ack_wait
                await self._timers.watch_at(tenant, execution, watch)
                return True
            case End.WAITING:
                if result.due is not None:
                    await self._timers.advance_at(tenant, execution, result.due)
                # A request that came while this worker still answered "yes, driving" has
                # no other job; it was appended before it asked, so it is seen here.
                last = await self._env.stores.log.last_commit(tenant, execution)
                return last is None or last.sequence == result.last_sequence

    async def _drive_once(self, tenant: str, execution: str) -> DriveResult:
        """Drive an execution, unless somebody drives it already."""
        key = (tenant, execution)
        if (driving := self._drives.get(key)) is not None:
            driving.look_again()
            return DriveResult(End.DISPLACED, 0)
        try:
            drive, history = await self._take_up(key)
            if await self._is_driven_elsewhere(tenant, execution, history):
                self._put_aside(key, drive, history)
                return DriveResult(End.DISPLACED, history.last_sequence)
            result = await drive.run(history)
            self._put_aside(key, drive)
            # Whoever asked while the drive was leaving was told that somebody would look.
            was_asked = result.end is End.WAITING and drive.was_asked
            return dataclasses.replace(result, end=End.ASKED) if was_asked else result
        except ExecutionNotFoundError as error:
            _log.warning("nothing to drive", tenant=tenant, execution=execution, error=str(error))
            return DriveResult(End.GONE, 0)
        finally:
            del self._drives[key]

    async def _take_up(self, key: tuple[str, str]) -> tuple[Drive, History]:
        """Return what drives an execution, and what the log says of that.

        One that has driven it a moment ago need not read all of the log again.
        """
        left = self._left.pop(key)
        if left is not None:
            self._register(key, left)
            if (history := await left.resume()) is not None:
                return left, history
        drive = Drive(self._env, *key)
        self._register(key, drive)
        read = self._read.pop(key)
        if read is not None:
            return drive, await self._env.stores.log.read_on(*key, read)
        return drive, await self._env.stores.log.load(*key)

    def _put_aside(self, key: tuple[str, str], drive: Drive, unused: History | None = None) -> None:
        if drive.is_resumable:
            self._left.put(key, drive, drive.memory)
        elif unused is not None:
            self._read.put(key, unused, memory_of(unused.size, len(unused.state.steps)))

    def _register(self, key: tuple[str, str], drive: Drive) -> None:
        self._drives[key] = drive
        if self._is_draining:
            drive.drain(0)

    async def _is_driven_elsewhere(self, tenant: str, execution: str, history: History) -> bool:
        writer = history.last_writer
        if history.state.is_terminal or writer in {"", self.worker_id}:
            return False
        return await self._asks_whether_driving(writer, tenant, execution)

    async def _asks_whether_driving(self, writer: str, tenant: str, execution: str) -> bool:
        try:
            answer = await self._client.request(
                self._subjects.worker(writer),
                f"{tenant}.{execution}".encode(),
                timeout=_ANSWER_TIMEOUT,
            )
        except (nats.errors.Error, TimeoutError):
            return False
        return answer.data == _YES

    async def _answer_whether_driving(self, question: Msg) -> None:
        tenant, _, execution = question.data.decode(errors="replace").partition(".")
        drive = self._drives.get((tenant, execution))
        if drive is not None:
            drive.look_again()
        with contextlib.suppress(nats.errors.Error):
            await question.respond(_NO if drive is None else _YES)


def _new_worker_id() -> str:
    host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:32]
    return f"{host}-{os.getpid()}-{new_token()[:8]}"
