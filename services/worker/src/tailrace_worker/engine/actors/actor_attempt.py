"""Run one attempt of an actor node, from its message to its end in the log."""

import asyncio
import random
import time
from enum import Enum
from typing import Any, Final

import msgspec
import structlog

from tailrace_shared.errors import JetStreamError, ServiceError
from tailrace_shared.execution.events import Event, StepBegun, StepProgressed, StepStarted
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_worker.engine.actors.decision import Decision, decide, is_attempt_of
from tailrace_worker.engine.actors.live_log import LiveLog
from tailrace_worker.engine.actors.thread_executor import DramatiqThreadExecutor
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded, end_event, lost
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks
from tailrace_worker.engine.run.attempt import Attempt, is_abandoned
from tailrace_worker.engine.run.runner import Runner
from tailrace_worker.engine.services.actor_job import ActorJob
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.services.progress_estimates import ProgressEstimates
from tailrace_worker.engine.tasks.retry import retry_forever
from tailrace_worker.nodes.raised import class_name

# Commits that were published while the connection was broken are found by this refresh.
_REFRESH_INTERVAL_S: Final = 30.0
# Time for an interrupted coroutine function to clean up.
_CLEANUP_GRACE_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Stop(Enum):
    """Why an attempt was stopped before it ended by itself."""

    UNWANTED = "the step no longer waits for it"
    CANCEL = "the execution is being cancelled"
    HANDOVER = "its worker is stopping"
    TIME_LIMIT = "the time limit of its actor has passed"


class ActorAttempt:
    """Runs one attempt. Lives on the engine's loop.

    Args:
        job: the arguments of the message.
        runner: runs synchronous functions on ``thread``.
        thread: the Dramatiq thread that took the message.
    """

    def __init__(
        self,
        services: EngineServices,
        log: LiveLog,
        job: ActorJob,
        plan: Plan,
        runner: Runner,
        thread: DramatiqThreadExecutor,
    ) -> None:
        self._services = services
        self._log = log
        self._job = job
        self._plan = plan
        self._planned = plan.step(job.step_id)
        self._runner = runner
        self._thread = thread
        self._wakeup = asyncio.Event()
        self._stop: Stop | None = None
        self._estimates: ProgressEstimates | None = None
        self._output: Any = msgspec.UNSET
        self._attempt: Attempt
        self._running: asyncio.Task[Outcome]

    async def begin(self) -> bool:
        """Record the start; False if the attempt may not start any more."""
        node, stamp = self._planned.node, format_timestamp(self._services.now())
        begun = StepBegun(
            self._job.step_id,
            node.type,
            "running",
            self._job.attempt,
            stamp,
            node.name,
            node.stage,
            remote=True,
        )
        return await self._log.append(
            [StepStarted(begun, stamp)], lambda state: decide(state, self._job) is Decision.START
        )

    async def run(self) -> None:
        """Run the function and record the end."""
        step = self._log.state.steps[self._job.step_id]
        self._attempt = Attempt(
            self._job.tenant,
            self._job.execution,
            step,
            self._services.loop,
            self._wakeup.set,
            self._services.now,
            self._services.output_budget,
        )
        marks = SensitivityMarks.of(self._plan, self._log.state)
        self._attempt.keeps_output = marks is not None
        self._running = self._services.loop.create_task(self._outcome())
        self._running.add_done_callback(lambda _task: self._wakeup.set())
        try:
            with self._log.watching(self._check_wanted):
                self._check_wanted()
                while self._stop is None and not self._running.done():
                    await self._report()
                    await self._wait()
            if self._stop is not None:
                await asyncio.wait([self._running], timeout=_CLEANUP_GRACE_S)
            await self._end()
        finally:
            self._running.cancel()
            self._attempt.close()
            self._attempt.held.close()

    async def release_thread(self) -> None:
        """Interrupt the function if it still runs although its attempt is over."""
        # A stopped attempt has had its grace already.
        grace = self._grace if self._stop is None else 0.0
        deadline = self._services.loop.time() + grace
        while self._thread.is_busy:
            if self._services.loop.time() >= deadline:
                self._thread.interrupt()
                return
            await asyncio.sleep(0.02)

    def stop(self, why: Stop) -> None:
        """Stop the attempt, unless it has ended by itself."""
        if self._stop is None and not self._running.done():
            self._stop = why
            self._attempt.mark_cancelled()
            self._running.cancel()
            self._wakeup.set()

    # While it runs

    async def _outcome(self) -> Outcome:
        try:
            await retry_forever(
                lambda: self._services.stores.outputs.fetch(
                    self._log.state, self._referenced_nodes()
                )
            )
            outcome = await self._runner.run(self._planned, self._log.state, self._attempt)
            if isinstance(outcome, Succeeded) and outcome.encoded is not None:
                return await self._store_output(outcome, outcome.encoded)
        except ServiceError as error:
            return Erred(str(error))
        # An attempt without an outcome would leave the execution waiting for ever.
        except BaseException as error:
            if is_abandoned(error, self._attempt):
                raise
            _log.exception("actor: attempt failed unexpectedly", **self._job._asdict())
            return Erred(f"internal error: {class_name(error)}")
        return outcome

    def _referenced_nodes(self) -> frozenset[str] | None:
        named: set[str] = set()
        for _path, expression in self._planned.parameters.expressions:
            if expression.nodes is None:
                return None
            named |= expression.nodes
        return frozenset(named)

    async def _store_output(self, outcome: Succeeded, encoded: bytes) -> Succeeded:
        ref = await retry_forever(
            lambda: self._services.stores.outputs.put(
                self._job.tenant, self._job.execution, self._job.step_id, self._job.attempt, encoded
            )
        )
        return Succeeded(outcome.output, ref=ref)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(_REFRESH_INTERVAL_S):
                await self._wakeup.wait()
        except TimeoutError:
            await self._log.refresh()
        self._wakeup.clear()

    async def _report(self) -> None:
        if self._attempt.is_due:
            reports = self._marked(await self._reports())
            try:
                await self._log.append(reports, self._is_wanted)
            except JetStreamError as error:
                # The function runs on: only its end must be stored.
                _log.warning("actor: reports dropped", **self._job._asdict(), error=str(error))

    async def _reports(self) -> list[Event]:
        reports = self._attempt.take_reports()
        progress = [report for report in reports if isinstance(report, StepProgressed)]
        if progress:
            # The progress of the execution must include this report.
            self._log.state.steps[self._job.step_id].percent = progress[-1].data.percent
            if self._estimates is None:
                self._estimates = await retry_forever(self._load_estimates)
            if self._estimates is not None:
                self._estimates.fill_in(reports, self._log.state, self._services.now())
        return reports

    async def _load_estimates(self) -> ProgressEstimates | None:
        return await self._services.progress_estimates(
            self._job.tenant, self._plan, self._log.state.version
        )

    def _marked(self, events: list[Event]) -> list[Event]:
        """Return events with their sensitive places marked."""
        if (sensitivity := SensitivityMarks.of(self._plan, self._log.state)) is not None:
            for event in events:
                sensitivity.mark(event, self._output)
        return events

    def _check_wanted(self) -> None:
        """Stop the attempt if the execution no longer waits for its result."""
        state = self._log.state
        is_wanted = self._is_wanted(state)
        if state.must_stop or (state.cancel is not None and not is_wanted):
            if not self._attempt.cancelled:
                self._attempt.mark_cancelled()
                self._services.loop.call_later(self._grace, self.stop, Stop.CANCEL)
        elif not is_wanted:
            self.stop(Stop.UNWANTED)

    def _is_wanted(self, state: ExecutionState) -> bool:
        return is_attempt_of(state, self._job)

    @property
    def _grace(self) -> float:
        """Seconds that the function has to observe its cancellation."""
        return self._services.cancel_grace if self._runner.observes_cancel(self._planned) else 0.0

    # How it ends

    async def _end(self) -> None:
        self._attempt.close()
        if not self._is_wanted(self._log.state):
            # The log may not even have the step any more.
            _log.info("actor: result dropped", **self._job._asdict())
            return
        end = self._end_event()
        events = [*await self._reports(), *([] if end is None else [end])]
        if not await self._log.append(self._marked(events), self._is_wanted):
            _log.info("actor: result dropped", **self._job._asdict())

    def _end_event(self) -> Event | None:
        step = self._log.state.steps[self._job.step_id]
        now = self._services.now()
        outcome: Outcome
        match self._stop:
            case None:
                outcome = self._running.result()
                self._output = outcome.output if isinstance(outcome, Succeeded) else msgspec.UNSET
            case Stop.TIME_LIMIT:
                outcome = Erred(Stop.TIME_LIMIT.value)
            case Stop.HANDOVER:
                return lost(step, self._planned.node, "handover", Stop.HANDOVER.value, now)
            case Stop.UNWANTED | Stop.CANCEL:
                return None
        draw = random.random()  # noqa: S311 - jitter, no secret
        end = end_event(step, outcome, self._planned.node, now, draw)
        seconds = time.monotonic() - self._attempt.begun
        self._services.counts.note_attempt(self._job.node_type, end, seconds)
        return end
