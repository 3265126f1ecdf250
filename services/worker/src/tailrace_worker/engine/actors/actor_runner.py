"""Handle the messages of actor nodes on this worker."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from dramatiq.middleware import CurrentMessage, Interrupt, Shutdown, TimeLimitExceeded

from tailrace_shared.errors import ExecutionNotFoundError, WorkflowNotFoundError
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.jobs import TRACEPARENT
from tailrace_shared.settings import WorkerSettings
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_worker.engine.actors.actor_attempt import ActorAttempt, Stop
from tailrace_worker.engine.actors.decision import Decision, decide
from tailrace_worker.engine.actors.live_log import LiveLog, LiveLogs
from tailrace_worker.engine.actors.thread_executor import DramatiqThreadExecutor
from tailrace_worker.engine.decide.outcomes import failed, lost
from tailrace_worker.engine.decide.plan import Plan, PlannedNode
from tailrace_worker.engine.services.actor_job import ActorJob, OutgoingJob, message_for, watch_for
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.retry import retry_forever

# A watch fires after the redelivery of a message whose worker has died since.
_WATCH_ACK_WAITS: Final = 2

_log = structlog.get_logger(__name__)


class ActorRunner:
    """Runs the attempts that messages bring to this worker."""

    def __init__(self, settings: WorkerSettings, services: Callable[[], EngineServices]) -> None:
        self._settings = settings
        self._engine_services = services
        self._running: dict[DramatiqThreadExecutor, ActorAttempt] = {}
        self._is_draining = False
        self._services: EngineServices
        self._logs: LiveLogs

    # On Dramatiq's threads

    def start(self) -> None:
        """Connect to the engine, which must have started."""
        self._services = services = self._engine_services()
        self._logs = LiveLogs(services)

    def run_attempt(
        self, tenant: str, execution: str, step_id: str, node_type: str, attempt: int
    ) -> None:
        """Run an attempt until nothing is left to do for it. This is the actors' function."""
        job = ActorJob(tenant, execution, step_id, node_type, attempt)
        thread, loop = DramatiqThreadExecutor(), self._services.loop
        message = CurrentMessage.get_current_message()
        cause = "" if message is None else message.options.get(TRACEPARENT, "")
        done = asyncio.run_coroutine_threadsafe(self._traced(job, thread, cause), loop)
        done.add_done_callback(lambda _done: thread.close())
        try:
            thread.serve(
                lambda interrupt: loop.call_soon_threadsafe(self._on_interrupt, thread, interrupt)
            )
            done.result()
        finally:
            # An attempt whose thread is gone must not answer that it is running.
            done.cancel()

    def drain(self) -> None:
        """Start no attempts; running ones get their grace, then they are handed over."""
        # Before Dramatiq interrupts a thread because of the shutdown.
        self._is_draining = True
        self._services.loop.call_soon_threadsafe(self._drain)

    # On the loop

    def _drain(self) -> None:
        self._is_draining = True
        for attempt in self._running.values():
            self._hand_over_later(attempt)

    def _hand_over_later(self, attempt: ActorAttempt) -> None:
        self._services.loop.call_later(self._settings.drain_grace, attempt.stop, Stop.HANDOVER)

    def _on_interrupt(self, thread: DramatiqThreadExecutor, interrupt: Interrupt) -> None:
        attempt = self._running.get(thread)
        if attempt is not None and isinstance(interrupt, TimeLimitExceeded):
            attempt.stop(Stop.TIME_LIMIT)
        # A function may raise it as well. That is an error like others: handing over has no limit.
        elif attempt is not None and isinstance(interrupt, Shutdown) and self._is_draining:
            attempt.stop(Stop.HANDOVER)

    async def _traced(self, job: ActorJob, thread: DramatiqThreadExecutor, cause: str) -> None:
        tracing = self._services.tracing
        if tracing is None:
            await self._handle(job, thread)
            return
        attributes: dict[str, str | int] = {
            "tailrace.tenant": job.tenant,
            "tailrace.execution": job.execution,
            "tailrace.step": job.step_id,
            "tailrace.attempt": job.attempt,
        }
        with tracing.root(f"attempt {job.node_type}", cause, attributes):
            await self._handle(job, thread)

    async def _handle(self, job: ActorJob, thread: DramatiqThreadExecutor) -> None:
        try:
            async with self._logs.open_log(job.tenant, job.execution) as log:
                await self._decide_and_act(job, log, thread)
        except ExecutionNotFoundError as error:
            _log.warning("actor: no such execution", **job._asdict(), error=str(error))

    async def _decide_and_act(
        self, job: ActorJob, log: LiveLog, thread: DramatiqThreadExecutor
    ) -> None:
        """Do what the log decides about a message, then leave the execution to its driver."""
        plan = await self._plan(job, log)
        while plan is not None:
            match decide(log.state, job):
                case Decision.START if self._is_draining:
                    await self._send(message_for(self._services.subjects, job))
                    return
                case Decision.START:
                    if await self._run(job, log, plan, thread):
                        return
                case Decision.CHECK:
                    if await self._services.liveness.is_running(job):
                        # This message and the other worker's may be one, delivered twice. Once it
                        # is acknowledged, no redelivery would follow the death of that worker.
                        when = self._services.now() + _WATCH_ACK_WAITS * self._settings.ack_wait
                        await self._send(watch_for(self._services.subjects, job, when))
                        return
                    if await log.append(
                        [self._lost(job, log, plan.step(job.step_id))],
                        lambda state: decide(state, job) is Decision.CHECK,
                    ):
                        break
                case Decision.DROP:
                    # The log may have been read from a lagging replica.
                    await log.refresh()
                    if decide(log.state, job) is Decision.DROP:
                        break
        await self._wake_driver(job, log)

    async def _run(
        self, job: ActorJob, log: LiveLog, plan: Plan, thread: DramatiqThreadExecutor
    ) -> bool:
        """Run an attempt from its start to its end; False if it did not start."""
        runner = self._services.runner.with_threads(thread, (Interrupt,))
        attempt = ActorAttempt(self._services, log, job, plan, runner, thread)
        # Other workers may ask about the attempt from its start on.
        async with self._services.liveness.answering(job):
            if not await attempt.begin():
                return False
            self._running[thread] = attempt
            if self._is_draining:
                self._hand_over_later(attempt)
            try:
                await attempt.run()
                await self._wake_driver(job, log)
            finally:
                del self._running[thread]
        await attempt.release_thread()
        return True

    def _lost(self, job: ActorJob, log: LiveLog, planned: PlannedNode) -> Event:
        step, now = log.state.steps[job.step_id], self._services.now()
        if step.crashes + 1 >= self._services.max_crashes:
            error = f"its worker was lost {step.crashes + 1} times while it ran"
            return failed(step, error, format_timestamp(now))
        return lost(step, planned.node, "crash", "its worker was lost", now)

    async def _plan(self, job: ActorJob, log: LiveLog) -> Plan | None:
        state = log.state
        try:
            return await retry_forever(
                lambda: self._services.plan(job.tenant, state.workflow_id, state.version)
            )
        except WorkflowNotFoundError:
            return None  # the driver fails the execution for that

    async def _wake_driver(self, job: ActorJob, log: LiveLog) -> None:
        """Have the execution driven on, before the message is acknowledged."""
        if log.state.is_terminal:
            return
        # Many attempts may end at once: a job for each would cost more than one question.
        writer = log.last_writer
        liveness = self._services.liveness
        if not writer or not await liveness.is_driven(writer, job.tenant, job.execution):
            await retry_forever(
                lambda: self._services.stores.due.put(job.tenant, job.execution, NOW)
            )
            await retry_forever(
                lambda: self._services.commands.jobs.advance(job.tenant, job.execution)
            )

    async def _send(self, message: OutgoingJob) -> None:
        await retry_forever(
            lambda: self._services.jetstream.publish(
                message.subject, message.payload, message.headers
            )
        )
