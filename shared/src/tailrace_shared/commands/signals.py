"""Deliver triggers to the steps that wait for them.

The sender stores the trigger and then reads the waiting index. A worker writes the wait into the
index and then reads the stored triggers (``look_back``). At least one of the two finds the other;
if both do, the fence of the log makes the signal count once.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    ExpressionError,
    IllegalCommandError,
    OutputNotFoundError,
)
from tailrace_shared.execution import commands
from tailrace_shared.execution.evaluation import context_of
from tailrace_shared.execution.events import Command
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.trigger_store import Trigger
from tailrace_shared.workflow.expressions.expression import Expression, compile_expression

_AT_ONCE: Final = 32
_COMPILED: Final = 1024

_log = structlog.get_logger(__name__)


class Signals:
    """Stores triggers and resolves the waits that they match.

    Args:
        stores: the log, the triggers, the waiting index, the due index and the outputs.
        jobs: where a resolved execution's job is published.
    """

    def __init__(self, stores: Stores, jobs: JobPublisher) -> None:
        self._log = stores.log
        self._waiting = stores.waiting
        self._triggers = stores.triggers
        self._due = stores.due
        self._outputs = stores.outputs
        self._jobs = jobs

    async def emit(
        self,
        tenant: str,
        procedure: str,
        data: Any,
        key: str | None = None,
        sensitive: Sequence[str] = (),
    ) -> int:
        """Store a trigger and deliver it; return the number of waits that it resolved.

        Raises:
            InvalidIdError, TriggerTooLargeError: the trigger is invalid.
            UnavailableError: NATS did not answer; with a key the trigger may be sent again.
        """
        trigger = await self._triggers.publish(tenant, procedure, data, key, sensitive)
        return await self.deliver(tenant, trigger)

    async def deliver(self, tenant: str, trigger: Trigger) -> int:
        """Deliver a stored trigger to all waits for it; return the number of waits it resolved.

        Idempotent: a wait that has the trigger already counts, and is resolved once.

        Raises:
            TailraceError: the first failed delivery; all others were attempted.
        """
        resolved = 0
        failures: list[BaseException] = []
        waiting = self._waiting.of_procedure(tenant, trigger.procedure)
        async for some in _batched(waiting, _AT_ONCE):
            results = await asyncio.gather(
                *(self._offer(tenant, each, trigger) for each in some), return_exceptions=True
            )
            resolved += sum(result is True for result in results)
            failures += [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise failures[0]
        return resolved

    async def look_back(self, tenant: str, waiting: Waiting) -> bool:
        """Resolve a wait by the earliest stored trigger that matches it.

        Raises:
            UnavailableError: NATS did not answer.
        """
        earliest: Trigger | None = None
        for procedure in waiting.triggers:
            found = await self._first_match(tenant, waiting, procedure)
            if found is not None and (earliest is None or found.sequence < earliest.sequence):
                earliest = found
        return earliest is not None and await self._resolve(tenant, waiting, earliest)

    async def _first_match(self, tenant: str, waiting: Waiting, procedure: str) -> Trigger | None:
        after = waiting.began - waiting.lookback
        async for trigger in self._triggers.since(tenant, procedure, after):
            if await self._matches(tenant, waiting, trigger):
                return trigger
        return None

    async def _offer(self, tenant: str, waiting: Waiting, trigger: Trigger) -> bool:
        # The same rule as in `look_back`: either side must reject a trigger that came too early.
        if trigger.time <= waiting.began - waiting.lookback:
            return False
        return await self._matches(tenant, waiting, trigger) and await self._resolve(
            tenant, waiting, trigger
        )

    async def _matches(self, tenant: str, waiting: Waiting, trigger: Trigger) -> bool:
        if waiting.match is None:
            return True
        try:
            expression = _compiled(waiting.match)
            context = await self._context(tenant, waiting, expression)
            return expression.evaluate({**context, "event": trigger.data}) is True
        except (ExpressionError, OutputNotFoundError, ExecutionNotFoundError) as error:
            # A waiter's faulty expression is no error of the sender.
            _log.info(
                "trigger: match expression failed",
                tenant=tenant,
                execution=waiting.execution_id,
                node=waiting.node_id,
                procedure=trigger.procedure,
                error=str(error),
            )
            return False

    async def _context(
        self, tenant: str, waiting: Waiting, expression: Expression
    ) -> dict[str, Any]:
        if expression.names <= {"event"}:
            return {}
        if waiting.context is not None:
            return waiting.context
        # A replica that lags may not have the outputs yet, and the match would fail.
        history = await self._log.load_newest(tenant, waiting.execution_id)
        await self._outputs.fetch(history.state, expression.nodes)
        return context_of([expression], history.state)

    async def _resolve(self, tenant: str, waiting: Waiting, trigger: Trigger) -> bool:
        execution = waiting.execution_id
        command = Command(
            execution,
            "resolve",
            # The same id for every delivery of the trigger, so that it is recorded once.
            f"{trigger.sequence}-{waiting.node_id}",
            node_id=waiting.node_id,
            event=trigger.data,
            procedure=trigger.procedure,
            sensitive=[f"/event{place}" for place in trigger.sensitive],
        )
        try:
            async with self._due.watched_request(tenant, execution):
                await self._log.request(
                    tenant,
                    execution,
                    lambda state: commands.request_resolve(state, command, time.time()),
                )
                await self._jobs.advance(tenant, execution, overtakes=True)
        except (IllegalCommandError, ExecutionNotFoundError):
            # The step has been resolved otherwise. Its worker removes the wait from the index;
            # remove it here, too, in case that worker died before.
            await self._waiting.remove(tenant, waiting)
            return False
        return True


@functools.lru_cache(maxsize=_COMPILED)
def _compiled(source: str) -> Expression:
    return compile_expression(source)


async def _batched(waiting: AsyncIterator[Waiting], size: int) -> AsyncIterator[list[Waiting]]:
    batch: list[Waiting] = []
    async for each in waiting:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
