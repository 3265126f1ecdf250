"""Begin and end an execution, before its first turn and after its last.

Both are idempotent: the next worker that gets the job may repeat them.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from typing import Any, Final

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    ExpressionError,
    IllegalCommandError,
    WorkflowNotFoundError,
)
from tailrace_shared.execution.events import (
    TERMINAL,
    Cancelled,
    CommandRequested,
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
from tailrace_shared.execution.summary import summary_of
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.stores.indexes.due_index import NOW
from tailrace_shared.stores.indexes.result_index import Result
from tailrace_shared.stores.log_records import History
from tailrace_worker.engine.decide.outcomes import MAX_OPEN_LISTED, MAX_WAITING_LISTED
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.drive.admission import Admission, AdmissionOutcome
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.log_writer import LogWriter
from tailrace_worker.engine.drive.rerun import kept_steps
from tailrace_worker.engine.services.engine_services import EngineServices

# A queued execution is woken when a place is free. The sweeper checks after this time.
_QUEUED_CHECK_S: Final = 300.0


class Lifecycle:
    """Begins one execution, and updates what depends on its end.

    Args:
        services: what all drives of this worker share.
        tenant: the tenant of the execution.
        writer: writes its log.

    Attributes:
        plan: the plan of the execution; None while it is not loaded, or if it cannot be.
    """

    def __init__(self, services: EngineServices, tenant: str, writer: LogWriter) -> None:
        self._services = services
        self._tenant = tenant
        self._writer = writer
        self._admission = Admission(services, tenant)
        self.plan: Plan | None = None

    async def begin(self, history: History, plan: Plan) -> DriveResult | None:
        """Admit an execution that has not started; return a result if it may not start now."""
        state = history.state
        if not history.is_listed:
            # Version 0.2 created it.
            await self._services.stores.start_repair.add(self._tenant, summary_of(state))
        if state.status != "queued" or state.cancel is not None:
            return None
        if ended := await self._ended_ancestor(state):
            return await self._cancel(state, f"its ancestor {ended} was cancelled or has ended")
        return await self._admit(state, plan)

    async def _admit(self, state: ExecutionState, plan: Plan) -> DriveResult | None:
        try:
            outcome = await self._admission.enter(state, plan)
            if outcome is AdmissionOutcome.START:
                await self._record_kept_steps(state, plan)
        except ExpressionError as error:
            return await self.fail(state, f"concurrency.key: {error}")
        except (ExecutionNotFoundError, WorkflowNotFoundError) as error:
            return await self.fail(state, f"cannot be run again: {error}")
        match outcome:
            case AdmissionOutcome.START:
                return None
            case AdmissionOutcome.REFUSE:
                return await self._refuse(state, plan)
            case AdmissionOutcome.WAIT:
                by = self._services.now() + _QUEUED_CHECK_S
                await self._services.stores.due.put(self._tenant, state.execution_id, by)
                nodes = len(plan.definition.nodes)
                await self._services.stores.runs.put(self._tenant, state, nodes)
                return DriveResult(End.WAITING, self._writer.last_sequence)

    async def _ended_ancestor(self, state: ExecutionState) -> str | None:
        """Return the root or parent of a child run if it has ended or will be cancelled.

        A cancellation reaches a large tree of runs level by level. Without this check, runs that
        wait for a worker would begin meanwhile.
        """
        if state.parent is None:
            return None
        parent = state.parent.execution_id
        for ancestor in {parent, state.root or parent}:
            if await self._is_ending(ancestor):
                return ancestor
        return None

    async def _is_ending(self, execution: str) -> bool:
        """Return whether an execution has ended or will be cancelled, as far as a replica knows."""
        last = await self._services.stores.log.last_commit(self._tenant, execution)
        return last is not None and any(map(_is_end, last.events()))

    async def finished(self, state: ExecutionState) -> DriveResult:
        """Update indexes, parent and child runs of an execution that has ended."""
        await asyncio.gather(*self._final_writes(state))
        # Last: as long as a write is missing, the sweeper must bring the execution back.
        await self._services.stores.due.remove(self._tenant, state.execution_id)
        return DriveResult(End.FINISHED, self._writer.last_sequence)

    def _final_writes(self, state: ExecutionState) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield the writes at the end of an execution. They run at once, each in a task."""
        nodes = 0 if self.plan is None else len(self.plan.definition.nodes)
        yield self._services.stores.runs.put(self._tenant, state, nodes)
        yield self._record_result(state)
        if self.plan is None:
            # A drive with a plan has removed them already; without a plan no other code will.
            yield self._remove_waits(state)
        elif self.plan.definition.concurrency is not None or state.overlap is not None:
            yield self._leave(state, self.plan)
        if state.parent is not None:
            yield self._wake_parent(state, state.parent)
        elif self.plan is not None and self.plan.starts_runs:
            yield self._services.limits.descendants.forget(self._tenant, state.execution_id)
        if state.status == "failed":
            yield self._cancel_children(state)

    async def _remove_waits(self, state: ExecutionState) -> None:
        waits = await self._services.stores.waiting.of_execution(self._tenant, state.execution_id)
        await asyncio.gather(
            *(self._services.stores.waiting.remove(self._tenant, waiting) for waiting in waits)
        )

    async def _leave(self, state: ExecutionState, plan: Plan) -> None:
        with contextlib.suppress(ExpressionError):
            await self._admission.leave(state, plan)

    async def _record_result(self, state: ExecutionState) -> None:
        """Record the result of the execution, then remove it from the live index."""
        result = Result(
            state.execution_id, state.status, self._writer.last_sequence, state.finished_at or ""
        )
        await self._services.stores.results.put(self._tenant, state.workflow_id, result)
        await self._services.stores.live.remove(self._tenant, state.workflow_id, state.execution_id)

    async def _wake_parent(self, state: ExecutionState, parent: Parent) -> None:
        # In a tree that is cancelled, each end would make a worker end the parent again, and that
        # one the parent of the parent.
        if state.status == "cancelled" and await self._is_ending(parent.execution_id):
            return
        await self._services.stores.due.put(self._tenant, parent.execution_id, NOW)
        await self._services.commands.jobs.advance(self._tenant, parent.execution_id)

    async def _cancel_children(self, state: ExecutionState) -> None:
        """Cancel child runs that an execution left behind when it was failed at once.

        A cancelled execution has cancelled its child runs before its end.
        """
        for step in state.steps.values():
            wait = step.waiting
            if step.status != "cancelled" or wait is None or wait.child_execution_id is None:
                continue
            # A child that has ended, or was never created, needs no cancellation.
            with contextlib.suppress(IllegalCommandError, ExecutionNotFoundError):
                reason = f"its parent {state.execution_id} failed"
                await self._services.commands.executions.cancel(
                    self._tenant, wait.child_execution_id, reason
                )

    async def fail(self, state: ExecutionState, message: str) -> DriveResult:
        """End an execution that cannot be driven."""
        if state.is_terminal:
            return await self.finished(state)
        waiting = state.waiting(MAX_WAITING_LISTED)
        # The message of a failed expression quotes the value it failed on.
        message = SensitiveValues.of(state).redact(message)
        open_steps = state.open_steps(MAX_OPEN_LISTED)
        end = Failed(
            state.execution_id, "failed", 0, message, waiting=waiting, open_steps=open_steps
        )
        return await self._end(state, ExecutionFailed(end, format_timestamp(self._services.now())))

    async def _refuse(self, state: ExecutionState, plan: Plan) -> DriveResult:
        if state.overlap == "skip":
            return await self._cancel(state, f"another run of {state.schedule} is active")
        limit = plan.definition.concurrency.limit if plan.definition.concurrency else 0
        return await self._cancel(state, f"{limit} run already, which is the workflow's limit")

    async def _cancel(self, state: ExecutionState, reason: str) -> DriveResult:
        end = Cancelled(state.execution_id, "cancelled", 0, reason)
        return await self._end(
            state, ExecutionCancelled(end, format_timestamp(self._services.now()))
        )

    async def _record_kept_steps(self, state: ExecutionState, plan: Plan) -> None:
        """Append the completions that a rerun keeps."""
        kept = await kept_steps(self._services, self._tenant, state, plan)
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


def _is_end(event: Event) -> bool:
    is_cancel = isinstance(event, CommandRequested) and event.data.command == "cancel"
    return is_cancel or isinstance(event, TERMINAL)
