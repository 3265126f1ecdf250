"""The beginning and the end of an execution: what is done once, around all that is driven.

Both may be done again, by whoever gets the job next, and then change nothing more.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from tailrace_shared.errors import ExecutionNotFoundError, ExpressionError, IllegalCommandError
from tailrace_shared.execution.events import (
    Cancelled,
    Event,
    ExecutionCancelled,
    ExecutionFailed,
    ExecutionResumed,
    Failed,
    Parent,
    Resumed,
)
from tailrace_shared.execution.sensitive_values import SensitiveValues
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.indexes.result_index import Result
from tailrace_worker.engine.decide.outcomes import MOST_WAITING
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.drive.admission import Admission, AdmissionOutcome
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.log_writer import LogWriter
from tailrace_worker.engine.drive.rerun import kept_steps
from tailrace_worker.engine.services.engine_services import EngineServices

# One that stands in line is woken; this long after, somebody looks whether it was.
_LOOK_AT_LINE: Final = 300.0


class Lifecycle:
    """Lets one execution begin, and sees to what its end asks for.

    Args:
        services: what all drives of this worker share.
        tenant: whose execution.
        writer: of its log.

    Attributes:
        plan: what it runs; None while that is not known, or if it is not to be had.
    """

    def __init__(self, services: EngineServices, tenant: str, writer: LogWriter) -> None:
        self._services = services
        self._tenant = tenant
        self._writer = writer
        self._admission = Admission(services, tenant)
        self.plan: Plan | None = None

    async def begin(self, state: ExecutionState, plan: Plan) -> DriveResult | None:
        """Prepare an execution that has not started; a result if it may not start now."""
        if state.status != "queued" or state.cancel is not None:
            return None
        try:
            verdict = await self._admission.enter(state, plan)
            if verdict is AdmissionOutcome.START:
                await self._keep(state, plan)
        except ExpressionError as error:
            return await self.fail(state, f"concurrency.key: {error}")
        except ExecutionNotFoundError as error:
            return await self.fail(state, f"cannot be run again: {error}")
        match verdict:
            case AdmissionOutcome.START:
                return None
            case AdmissionOutcome.REFUSE:
                return await self._refuse(state, plan)
            case AdmissionOutcome.WAIT:
                by = self._services.now() + _LOOK_AT_LINE
                await self._services.stores.due.put(self._tenant, state.execution_id, by)
                await self._services.stores.runs.put(self._tenant, state)
                return DriveResult(End.WAITING, self._writer.last_sequence)

    async def finished(self, state: ExecutionState) -> DriveResult:
        """Do what the end of an execution asks for beside its log."""
        await asyncio.gather(*self._duties(state))
        # Last: while anything is left to do, somebody must look after the execution.
        await self._services.stores.due.remove(self._tenant, state.execution_id)
        return DriveResult(End.FINISHED, self._writer.last_sequence)

    def _duties(self, state: ExecutionState) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield what is to be done at once at the end. Each becomes a task, so only what does."""
        yield self._services.stores.runs.put(self._tenant, state)
        yield self._retire(state)
        if self.plan is None:
            # A drive that has a plan has done it already; where there is none nobody else will.
            yield self._forget_waits(state)
        elif self.plan.definition.concurrency is not None:
            yield self._leave(state, self.plan)
        if state.parent is not None:
            yield self._tell_parent(state.parent)
        if state.status == "failed":
            yield self._cancel_children(state)

    async def _forget_waits(self, state: ExecutionState) -> None:
        waits = await self._services.stores.waiting.of_execution(self._tenant, state.execution_id)
        await asyncio.gather(
            *(self._services.stores.waiting.remove(self._tenant, waiting) for waiting in waits)
        )

    async def _leave(self, state: ExecutionState, plan: Plan) -> None:
        with contextlib.suppress(ExpressionError):
            await self._admission.leave(state, plan)

    async def _retire(self, state: ExecutionState) -> None:
        """Say what has become of the execution, then that it is live no more."""
        result = Result(
            state.execution_id, state.status, self._writer.last_sequence, state.finished_at or ""
        )
        await self._services.stores.results.put(self._tenant, state.workflow_id, result)
        await self._services.stores.live.remove(self._tenant, state.workflow_id, state.execution_id)

    async def _tell_parent(self, parent: Parent) -> None:
        await self._services.stores.due.put(self._tenant, parent.execution_id, NOW)
        await self._services.commands.jobs.advance(self._tenant, parent.execution_id)

    async def _cancel_children(self, state: ExecutionState) -> None:
        """Have child runs cancelled that an execution has left behind: one that was failed at once.

        Whoever is cancelled has its child runs cancelled first.
        """
        for step in state.steps.values():
            wait = step.waiting
            if step.status != "cancelled" or wait is None or wait.child_execution_id is None:
                continue
            # One that has ended, or was never created, is as good as cancelled.
            with contextlib.suppress(IllegalCommandError, ExecutionNotFoundError):
                reason = f"its parent {state.execution_id} failed"
                await self._services.commands.executions.cancel(
                    self._tenant, wait.child_execution_id, reason
                )

    async def fail(self, state: ExecutionState, message: str) -> DriveResult:
        """End an execution that cannot be driven."""
        if state.is_terminal:
            return await self.finished(state)
        waiting = state.waiting(MOST_WAITING)
        # An expression that fails quotes what it fails on.
        message = SensitiveValues.of(state).redact(message)
        end = Failed(state.execution_id, "failed", 0, message, waiting=waiting)
        return await self._end(state, ExecutionFailed(end, format_timestamp(self._services.now())))

    async def _refuse(self, state: ExecutionState, plan: Plan) -> DriveResult:
        limit = plan.definition.concurrency.limit if plan.definition.concurrency else 0
        reason = f"{limit} run already, which is the workflow's limit"
        end = Cancelled(state.execution_id, "cancelled", 0, reason)
        return await self._end(
            state, ExecutionCancelled(end, format_timestamp(self._services.now()))
        )

    async def _keep(self, state: ExecutionState, plan: Plan) -> None:
        """Record the completions that a rerun takes over."""
        kept = await kept_steps(self._services, self._tenant, state, plan.graph)
        for event in kept:
            state.apply(event)
        await self._writer.append(kept, state)

    async def _end(
        self, state: ExecutionState, end: ExecutionFailed | ExecutionCancelled
    ) -> DriveResult:
        events: list[Event] = [end]
        if state.status == "paused":
            resumed = Resumed(state.execution_id, "running")
            events.insert(0, ExecutionResumed(resumed, end.timestamp))
        for event in events:
            state.apply(event)
        await self._writer.append(events, state)
        self._services.statistics.note(self._tenant, state)
        return await self.finished(state)
