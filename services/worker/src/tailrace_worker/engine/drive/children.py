"""Start, check and cancel the child runs that one execution waits for.

A child's id is in its parent's log before the child exists. So starting it, checking for its end
and cancelling it are idempotent, whichever drive does it.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Final

import msgspec

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IllegalCommandError,
    JetStreamError,
    NewerLogError,
    ServiceError,
    UnavailableError,
)
from tailrace_shared.execution.evaluation import final_output
from tailrace_shared.execution.events import (
    MAX_VALUE_BYTES,
    TERMINAL,
    ExecutionQueued,
    Origin,
    Parent,
    StepWait,
)
from tailrace_shared.execution.state import ExecutionState
from tailrace_worker.engine.decide.outcomes import Erred, Outcome, Succeeded
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.background_tasks import BackgroundTasks
from tailrace_worker.engine.tasks.retry import retry_unavailable

_CHECK_DELAY_S: Final = 0.1
_CANCELLED_AT_ONCE: Final = 16

StepAttempt = tuple[str, int]
"""A step and its attempt."""
OnEnded = Callable[[tuple[StepAttempt, Outcome]], None]


class Children:
    """The child runs of one execution.

    Args:
        services: what all drives of this worker share.
        tenant: the tenant of the execution.
        execution: the id of the parent.
        tasks: runs what takes time.
        on_ended: called with the step of a child run that has ended, and the outcome.
    """

    def __init__(
        self,
        services: EngineServices,
        tenant: str,
        execution: str,
        tasks: BackgroundTasks,
        on_ended: OnEnded,
    ) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._tasks = tasks
        self._on_ended = on_ended
        self._open: dict[StepAttempt, StepWait] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a check for ended child runs is scheduled."""
        return self._timer is not None

    def close(self) -> None:
        """Cancel the scheduled check."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, step_attempt: StepAttempt, wait: StepWait, parent: ExecutionState) -> None:
        """Ensure that the child run of a step exists."""
        self.add_running(step_attempt, wait)
        origin = Origin(
            parent=Parent(self._execution, step_attempt[0]),
            depth=parent.depth + 1,
            # Runs of earlier versions do not know their root.
            root=parent.root or (parent.parent or Parent(self._execution, "")).execution_id,
            sensitive=tuple(wait.sensitive),
        )
        self._tasks.start(functools.partial(self._ensure_started, step_attempt, wait, origin))

    def add_running(self, step_attempt: StepAttempt, wait: StepWait) -> None:
        """Add the child run of a step, only to cancel it."""
        self._open[step_attempt] = wait

    def remove(self, step_attempt: StepAttempt) -> None:
        """Remove the child run of a step that has gone on."""
        self._open.pop(step_attempt, None)

    def time_out(self, step_attempt: StepAttempt, message: str) -> None:
        """Cancel a child run that takes too long, then end its step's attempt with ``message``."""
        wait = self._open.pop(step_attempt, None)
        if wait is not None:
            self._tasks.start(functools.partial(self._time_out, step_attempt, wait, message))

    def check_soon(self) -> None:
        """Schedule a check for ended child runs; requests within 100 ms are coalesced."""
        if self._timer is None and self._open:
            self._timer = self._services.loop.call_later(_CHECK_DELAY_S, self._check_all)

    async def cancel_all(self) -> None:
        """Cancel all child runs.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        # A child run that is being started cannot be cancelled yet.
        await self._tasks.join()
        reason = f"its parent {self._execution} was cancelled"
        limit = asyncio.Semaphore(_CANCELLED_AT_ONCE)

        async def cancel(wait: StepWait) -> None:
            async with limit:
                await retry_unavailable(
                    functools.partial(self._cancel, wait, reason), lambda: False
                )

        await asyncio.gather(*map(cancel, self._open.values()))

    def _check_all(self) -> None:
        self._timer = None
        for step_attempt, wait in self._open.items():
            self._tasks.start(functools.partial(self._check, step_attempt, wait))

    async def _ensure_started(
        self, step_attempt: StepAttempt, wait: StepWait, origin: Origin
    ) -> None:
        """Start the child run if it does not exist; report its outcome if it has ended."""
        last = await self._services.stores.log.last_commit(self._tenant, _child(wait))
        # The worker that created a queued child may have died before it published the job.
        if last is None or isinstance(last.events()[-1], ExecutionQueued):
            await self._start(step_attempt, wait, origin)
        elif isinstance(last.events()[-1], TERMINAL):
            self._on_ended(
                (step_attempt, await self._outcome(step_attempt, _child(wait), last.sequence))
            )

    async def _check(self, step_attempt: StepAttempt, wait: StepWait) -> None:
        last = await self._services.stores.log.last_commit(self._tenant, _child(wait))
        if (
            last is not None
            and step_attempt in self._open
            and isinstance(last.events()[-1], TERMINAL)
        ):
            self._on_ended(
                (step_attempt, await self._outcome(step_attempt, _child(wait), last.sequence))
            )

    async def _start(self, step_attempt: StepAttempt, wait: StepWait, origin: Origin) -> None:
        limit = self._services.limits.max_depth
        if origin.depth > limit:
            message = (
                f"runs within runs {origin.depth} deep; the limit is {limit} "
                "(TAILRACE_MAX_RUN_DEPTH)"
            )
            self._on_ended((step_attempt, Erred(message, retryable=False)))
            return
        try:
            await self._services.commands.starter.start_child(
                self._tenant, _child(wait), wait.child_workflow_id or "", wait.child_input, origin
            )
        except (UnavailableError, NewerLogError, JetStreamError):
            raise
        except ServiceError as error:
            self._on_ended((step_attempt, Erred(str(error), retryable=False)))

    async def _outcome(self, step_attempt: StepAttempt, child: str, end: int) -> Outcome:
        """Return the outcome of a step whose child run ended at sequence ``end`` of its log."""
        try:
            # On a lagging replica the run has not ended yet.
            state = (await self._services.stores.log.load(self._tenant, child, at_least=end)).state
            if state.status == "completed":
                return await self._succeeded(step_attempt, state)
        except (UnavailableError, NewerLogError, JetStreamError):
            raise
        except ServiceError as error:
            # Without an outcome the step would wait for ever.
            return Erred(f"the output of its run {child}: {error}", retryable=False)
        return Erred(f"its run {child} was {state.status}: {state.error or 'no reason given'}")

    async def _succeeded(self, step_attempt: StepAttempt, child: ExecutionState) -> Outcome:
        output = child.output
        if child.output_omitted:
            workflow = await self._services.stores.workflows.get(
                self._tenant, child.workflow_id, child.version
            )
            await self._services.stores.outputs.fetch(child)
            # Compiling the template may take long.
            output = await asyncio.to_thread(final_output, child, workflow.definition)
        encoded = msgspec.json.encode(output)
        if len(encoded) <= MAX_VALUE_BYTES:
            return Succeeded(output, sensitive=child.output_sensitive)
        step_id, attempt = step_attempt
        ref = await self._services.stores.outputs.put(
            self._tenant, self._execution, step_id, attempt, encoded
        )
        return Succeeded(output, ref=ref, sensitive=child.output_sensitive)

    async def _time_out(self, step_attempt: StepAttempt, wait: StepWait, message: str) -> None:
        await self._cancel(wait, message)
        self._on_ended((step_attempt, Erred(message)))

    async def _cancel(self, wait: StepWait, reason: str) -> None:
        # A child that has ended, or was never created, needs no cancellation.
        with contextlib.suppress(IllegalCommandError, ExecutionNotFoundError):
            await self._services.commands.executions.cancel(self._tenant, _child(wait), reason)


def _child(wait: StepWait) -> str:
    return wait.child_execution_id or ""
