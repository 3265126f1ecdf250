"""Run attempts of one drive on this worker: launch, collect, interrupt.

Reports and ends of attempts come out as facts: events that are recorded with the scheduler and wait
to be committed.
"""

import asyncio
import functools
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import structlog

from tailrace_shared.errors import ServiceError
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.items import split_item_id
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded, end_event
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.engine.run.attempt import Attempt, is_abandoned
from tailrace_worker.engine.run.output_budget import HeldOutputs
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.retry import retry_unavailable
from tailrace_worker.nodes.raised import class_name

_CLEANUP_GRACE_S: Final = 1.0

_log = structlog.get_logger(__name__)


class LocalAttempts:
    """The running attempts of one execution.

    Args:
        services: what all drives of this worker share.
        tenant: the tenant of the execution.
        execution: the id of the execution.
        wake: called when there are facts to take.

    Attributes:
        scheduler: records the facts.
    """

    scheduler: Scheduler

    def __init__(
        self, services: EngineServices, tenant: str, execution: str, wake: Callable[[], None]
    ) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._wake = wake
        self._running: dict[str, Attempt] = {}
        # The outputs that stay in memory until the drive ends.
        self._kept: list[HeldOutputs] = []
        self._ended: list[tuple[Attempt, Outcome]] = []

    def __len__(self) -> int:
        return len(self._running)

    def is_instant(self, step_id: str) -> bool:
        """Return whether a step is evaluated inside a commit."""
        return self._services.runner.is_instant(self.scheduler.plan.step(step_id))

    def run_instant(self, step_id: str) -> list[Event]:
        """Run a step without effects; return its end, or nothing if it must be launched."""
        attempt = self._attempt(step_id)
        planned = self.scheduler.plan.step(step_id)
        outcome = self._services.runner.run_instant(planned, self.scheduler.state, attempt)
        attempt.held.close()
        if isinstance(outcome, Succeeded) and outcome.encoded is not None:
            # An output of this size is stored outside the log first, which takes time.
            return []
        return self._record_end(attempt, outcome)

    def launch(self, step_ids: Iterable[str]) -> None:
        """Start attempts of steps that have started in the log."""
        for step_id in step_ids:
            if step_id not in self._running:
                attempt = self._running[step_id] = self._attempt(step_id)
                attempt.task = self._services.loop.create_task(self._run(attempt))

    def take_facts(self) -> list[Event]:
        """Return what has happened since the last call, recorded with the scheduler."""
        facts: list[Event] = []
        ended, self._ended = self._ended, []
        for attempt, outcome in ended:
            del self._running[attempt.node_id]
            facts += self._record_end(attempt, outcome)
        for attempt in self._running.values():
            if attempt.is_due:
                facts += [self.scheduler.record(report) for report in attempt.take_reports()]
        return facts

    @property
    def unlaunched(self) -> list[str]:
        """Steps that run by the log, and whose attempt has neither started nor ended here."""
        known = self._running.keys() | {attempt.node_id for attempt, _outcome in self._ended}
        return [step.node_id for step in self.scheduler.attended if step.node_id not in known]

    async def interrupt(self, grace: float) -> list[Event]:
        """Interrupt all attempts; return the facts of those that ended by themselves.

        Args:
            grace: seconds that functions which observe the cancellation have to end.
        """
        observing: list[asyncio.Task[None]] = []
        for attempt in self._running.values():
            planned = self.scheduler.plan.step(attempt.node_id)
            if attempt.task is not None and self._services.runner.observes_cancel(planned):
                attempt.mark_cancelled()
                observing.append(attempt.task)
        if observing and grace > 0:
            await asyncio.wait(observing, timeout=grace)
        tasks = [attempt.task for attempt in self._running.values() if attempt.task]
        for attempt in self._running.values():
            attempt.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLEANUP_GRACE_S)
        # A function may raise because it observed the cancellation: its error is no outcome.
        for attempt, outcome in self._ended:
            if isinstance(outcome, Erred) and attempt.cancelled:
                del self._running[attempt.node_id]
        self._ended = [
            (attempt, outcome)
            for attempt, outcome in self._ended
            if attempt.node_id in self._running
        ]
        facts = self.take_facts()
        self.abandon()
        return facts

    def abandon(self) -> None:
        """Cancel all attempts; their results are dropped."""
        for attempt in self._running.values():
            attempt.cancel()
            attempt.close()
            attempt.held.close()
        for held in self._kept:
            held.close()
        self._kept.clear()
        self._running.clear()
        self._ended.clear()

    def _attempt(self, step_id: str) -> Attempt:
        step = self.scheduler.state.steps[step_id]
        attempt = Attempt(
            self._tenant,
            self._execution,
            step,
            self._services.loop,
            self._wake,
            self._services.now,
            self._services.output_budget,
        )
        attempt.sensitivity = self.scheduler.sensitivity
        attempt.keeps_output = self._is_needed(step_id)
        return attempt

    async def _run(self, attempt: Attempt) -> None:
        try:
            outcome = await self._traced(attempt)
        # An attempt without an outcome would leave the execution waiting for ever.
        except BaseException as error:
            if is_abandoned(error, attempt):
                raise
            _log.exception(
                "attempt failed unexpectedly", tenant=self._tenant, execution=self._execution
            )
            outcome = Erred(f"internal error: {class_name(error)}")
        # The result of an attempt that was abandoned in the meantime is dropped.
        if self._running.get(attempt.node_id) is attempt:
            self._ended.append((attempt, outcome))
            self._wake()

    async def _traced(self, attempt: Attempt) -> Outcome:
        tracing = self._services.tracing
        if tracing is None:
            return await self._outcome(attempt)
        attributes: dict[str, str | int] = {
            "tailrace.step": attempt.node_id,
            "tailrace.attempt": attempt.attempt,
        }
        with tracing.child(f"attempt {attempt.node_type}", attributes) as span:
            outcome = await self._outcome(attempt)
            if isinstance(outcome, Erred):
                tracing.fail(span, outcome.message)
            return outcome

    async def _outcome(self, attempt: Attempt) -> Outcome:
        planned = self.scheduler.plan.step(attempt.node_id)
        outcome = await self._services.runner.run(planned, self.scheduler.state, attempt)
        if not isinstance(outcome, Succeeded) or outcome.encoded is None:
            return outcome
        encoded = outcome.encoded
        output = outcome.output if attempt.keeps_output else msgspec.UNSET
        # To store it takes time, in which memory holds no more of it than is needed.
        del outcome
        return await self._store_output(attempt, output, encoded)

    def _is_needed(self, step_id: str) -> bool:
        """Return whether an expression may use an output, or marks of sensitive values do."""
        return self.scheduler.sensitivity is not None or self._is_referenced(step_id)

    def _is_referenced(self, step_id: str) -> bool:
        referenced = self.scheduler.plan.referenced
        return referenced is None or split_item_id(step_id)[0] in referenced

    async def _store_output(
        self, attempt: Attempt, output: Any, encoded: bytes
    ) -> Succeeded | Erred:
        put = functools.partial(
            self._services.stores.outputs.put,
            self._tenant,
            self._execution,
            attempt.node_id,
            attempt.attempt,
            encoded,
        )
        try:
            ref = await retry_unavailable(put, lambda: attempt.cancelled)
        except ServiceError as error:
            return Erred(f"the output could not be stored: {error}")
        return Succeeded(output, ref=ref)

    def _record_end(self, attempt: Attempt, outcome: Outcome) -> list[Event]:
        attempt.close()
        scheduler = self.scheduler
        facts = [scheduler.record(report) for report in attempt.take_reports()]
        step = scheduler.state.steps[attempt.node_id]
        draw = random.random()  # noqa: S311 - jitter, no secret
        output = outcome.output if isinstance(outcome, Succeeded) else msgspec.UNSET
        node = scheduler.plan.step(attempt.node_id).node
        end = end_event(step, outcome, node, self._services.now(), draw)
        seconds = time.monotonic() - attempt.begun
        self._services.counts.note_attempt(attempt.node_type, end, seconds)
        facts.append(scheduler.record(end, output))
        has_reference = isinstance(outcome, Succeeded) and outcome.ref is not None
        if has_reference and self._is_referenced(attempt.node_id):
            # Kept in memory, so that it need not be fetched.
            step.output = output
            self._kept.append(attempt.held)
        else:
            attempt.held.close()
        return facts
