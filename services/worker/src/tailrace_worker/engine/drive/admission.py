"""Admit an execution by the concurrency limit of its workflow."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from tailrace_shared.commands.concurrency_gate import ConcurrencyGate, GateResult
from tailrace_shared.commands.run_starter import RunRequest
from tailrace_shared.errors import ExecutionNotFoundError, IllegalCommandError
from tailrace_shared.execution.evaluation import evaluate
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.definition import Concurrency, OnLimit, Overlap
from tailrace_worker.engine.decide.plan import Plan
from tailrace_worker.engine.services.engine_services import EngineServices


class AdmissionOutcome(Enum):
    """The outcome of an execution's attempt to start."""

    START = "a place is free"
    WAIT = "it joined the queue"
    REFUSE = "no place is free, and the workflow's policy is not to queue"


_ON_OVERLAP: Final[Mapping[Overlap, OnLimit]] = {
    "queue": "queue",
    "skip": "cancel_new",
    "cancel": "cancel_running",
}


class _Group(NamedTuple):
    limit: Concurrency
    name: str


class Admission:
    """Takes and gives back the place of one execution."""

    def __init__(self, services: EngineServices, tenant: str) -> None:
        self._services = services
        self._tenant = tenant

    async def enter(self, state: ExecutionState, plan: Plan) -> AdmissionOutcome:
        """Take a place for an execution; it, or an ancestor of it, may hold one already.

        Raises:
            ExpressionError: the concurrency key cannot be evaluated on the input.
        """
        for group in _groups(state, plan):
            outcome = await self._enter_group(state, group)
            if outcome is not AdmissionOutcome.START:
                return outcome
        return AdmissionOutcome.START

    async def _enter_group(self, state: ExecutionState, group: _Group) -> AdmissionOutcome:
        limit = group.limit
        if state.parent is not None:
            # Do not queue it before it is known that it needs a place of its own.
            entry = await self._enter(state, group, may_queue=False)
            if entry.admitted or await self._ancestor_holds(state, entry.holders):
                return AdmissionOutcome.START
        entry = await self._enter(state, group, may_queue=limit.on_limit != "cancel_new")
        if entry.admitted:
            return AdmissionOutcome.START
        if limit.on_limit == "cancel_new":
            return AdmissionOutcome.REFUSE
        if limit.on_limit == "cancel_running":
            for holder in entry.holders[: len(entry.holders) - limit.limit + 1]:
                with contextlib.suppress(IllegalCommandError, ExecutionNotFoundError):
                    await self._services.commands.executions.cancel(
                        self._tenant, holder, f"overtaken by {state.execution_id}"
                    )
        return AdmissionOutcome.WAIT

    async def _enter(self, state: ExecutionState, group: _Group, *, may_queue: bool) -> GateResult:
        return await self._services.commands.gate.enter(
            self._tenant,
            state.workflow_id,
            group.name,
            group.limit.limit,
            state.execution_id,
            waits=may_queue,
            overtakes=group.limit.on_limit == "cancel_running",
        )

    async def _ancestor_holds(self, state: ExecutionState, holders: list[str]) -> bool:
        """Return whether an ancestor holds a place.

        The ancestor waits for this run. If this run waited for the place, both would wait for ever.
        """
        ancestor = state.parent
        while ancestor is not None:
            if ancestor.execution_id in holders:
                return True
            history = await self._services.stores.log.load(self._tenant, ancestor.execution_id)
            ancestor = history.state.parent
        return False

    async def leave(self, state: ExecutionState, plan: Plan) -> None:
        """Give the place back; the next execution in the queue is woken."""
        for group in _groups(state, plan):
            await self._services.commands.gate.leave(
                self._tenant,
                state.workflow_id,
                group.name,
                group.limit.limit,
                state.execution_id,
            )


def _groups(state: ExecutionState, plan: Plan) -> Iterator[_Group]:
    """Yield the groups that an execution must enter, in this order."""
    if state.schedule is not None and state.overlap is not None:
        limit = Concurrency(1, on_limit=_ON_OVERLAP[state.overlap])
        yield _Group(limit, schedule_group(state.schedule))
    if (declared := plan.definition.concurrency) is not None:
        expression = plan.concurrency_key
        key = None if expression is None else evaluate(expression, state, budget=plan.budget())
        # Hashed, because a key may contain characters that a subject token must not.
        encoded = msgspec.json.encode(key, order="sorted")
        yield _Group(declared, hashlib.sha256(encoded).hexdigest()[:32])


def schedule_group(schedule: str) -> str:
    """Return the name of the group of a schedule's runs."""
    return "schedule-" + hashlib.sha256(schedule.encode()).hexdigest()[:32]


async def is_schedule_active(gate: ConcurrencyGate, request: RunRequest) -> bool:
    """Return whether an earlier run of the schedule that sends a request is active."""
    group = schedule_group(request.origin.schedule or "")
    return await gate.is_held(request.tenant, request.workflow_id, group)
