"""Evaluate the filters of waits (``match``), a little at a time.

A trigger may concern thousands of waits, each with a filter of its own. A filter has half the
budget of a template. The filters of one tenant are evaluated one after the other, and every few
milliseconds the event loop gets as long for its other work. The process that receives a trigger
evaluates filters for a hundredth of a second; workers evaluate the rest.
"""

import asyncio
import functools
from typing import Any, Final

import structlog

from tailrace_shared.caching.ttl_cache import TtlCache
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    ExpressionError,
    OutputNotFoundError,
    ServiceError,
)
from tailrace_shared.execution.evaluation import context_of
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.log_records import History
from tailrace_shared.stores.output_store import OutputStore
from tailrace_shared.stores.trigger_store import Trigger
from tailrace_shared.workflow.expressions.budget import Budget
from tailrace_shared.workflow.expressions.expression import Expression, compile_expression

SENDER_STEPS: Final = 10_000
"""The cost limit of all filters of a trigger in the process that receives it."""

_SHARE: Final = 0.5
_SLICE_STEPS: Final = 2000
_STEP_S: Final = 1e-6
_COMPILED: Final = 1024
_MAX_TENANTS: Final = 10_000
_COMPILED_AT_ONCE_CHARS: Final = 256

_log = structlog.get_logger(__name__)


class TooManyFiltersError(ServiceError):
    """The filters of a trigger cost more than this process spends on them."""


class Delivered:
    """The delivery of one trigger.

    Args:
        trigger: what is delivered.
        steps: what its filters may cost in this process; None for no limit.
    """

    def __init__(self, trigger: Trigger, steps: float | None = None) -> None:
        self.trigger = trigger
        self._steps = steps
        self._spent = 0.0

    def spend(self, steps: float) -> None:
        """Count what a filter has cost."""
        self._spent += steps

    def check(self) -> None:
        """Raise :class:`TooManyFiltersError` if nothing is left to spend."""
        if self._steps is not None and self._spent > self._steps:
            raise TooManyFiltersError


class _Pace:
    """The turns of one tenant's filters."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.spent = 0.0


class TriggerFilters:
    """Evaluates filters.

    Args:
        steps: what the expressions of one template may cost.
    """

    def __init__(self, log: ExecutionLog, outputs: OutputStore, steps: float) -> None:
        self._log = log
        self._outputs = outputs
        self._steps = steps * _SHARE
        self._paces: TtlCache[str, _Pace] = TtlCache(_MAX_TENANTS)

    async def matching(
        self, tenant: str, waits: list[Waiting], delivered: Delivered
    ) -> list[Waiting]:
        """Return those of some waits of one execution whose filter a trigger satisfies.

        Raises:
            TooManyFiltersError: the rest is to be evaluated by another process.
            UnavailableError: NATS did not answer.
        """
        history: History | None = None
        found = []
        for waiting in waits:
            if waiting.match is None:
                found.append(waiting)
                continue
            try:
                expression = await compile_filter(waiting.match)
                context = waiting.context
                if context is None and not expression.names <= {"event"}:
                    if history is None:
                        # A replica that lags may not have the outputs yet.
                        history = await self._log.load_newest(tenant, waiting.execution_id)
                    await self._outputs.fetch(history.state, expression.nodes)
                    context = context_of([expression], history.state)
                if await self._evaluate(tenant, expression, context or {}, delivered):
                    found.append(waiting)
            except (ExpressionError, OutputNotFoundError, ExecutionNotFoundError) as error:
                # A waiter's faulty expression is no error of the sender.
                _log.info(
                    "trigger: match expression failed",
                    tenant=tenant,
                    execution=waiting.execution_id,
                    node=waiting.node_id,
                    procedure=delivered.trigger.procedure,
                    error=str(error),
                )
        return found

    async def _evaluate(
        self, tenant: str, expression: Expression, context: dict[str, Any], delivered: Delivered
    ) -> bool:
        pace = self._paces.get(tenant)
        if pace is None:
            pace = _Pace()
            self._paces.put(tenant, pace)
        async with pace.lock:
            delivered.check()
            if pace.spent > _SLICE_STEPS:
                rest, pace.spent = pace.spent * _STEP_S, 0.0
                await asyncio.sleep(rest)
            budget = Budget(self._steps)
            names = {**context, "event": delivered.trigger.data}
            try:
                return expression.evaluate(names, budget) is True
            finally:
                # One that was refused has cost no more than its limit.
                cost = min(budget.spent, budget.steps)
                pace.spent += cost
                delivered.spend(cost)


async def compile_filter(source: str) -> Expression:
    """Compile a filter, in a thread if it is long; results are cached.

    Raises:
        InvalidExpressionError: it is not valid.
    """
    if len(source) <= _COMPILED_AT_ONCE_CHARS:
        return _compiled(source)
    return await asyncio.to_thread(_compiled, source)


@functools.lru_cache(maxsize=_COMPILED)
def _compiled(source: str) -> Expression:
    return compile_expression(source)
