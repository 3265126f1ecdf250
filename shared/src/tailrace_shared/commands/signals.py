"""Deliver triggers to the steps that wait for them.

The sender stores the trigger and then reads the waiting index. A worker writes the wait into the
index and then reads the stored triggers (``look_back``). At least one of the two finds the other;
if both do, the fence of the log makes the signal count once.
"""

import asyncio
import collections
import itertools
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import structlog

from tailrace_shared.commands.job_publisher import JobPublisher
from tailrace_shared.commands.time_limit import within_limit
from tailrace_shared.commands.trigger_filters import (
    SENDER_STEPS,
    Delivered,
    TooManyFiltersError,
    TriggerFilters,
)
from tailrace_shared.commands.trigger_jobs import TriggerJobs
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IllegalCommandError,
    NewerLogError,
    UnavailableError,
)
from tailrace_shared.execution import commands
from tailrace_shared.execution.events import Command, CommandRequested
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.stores.indexes.waiting_index import WaitId, Waiting
from tailrace_shared.stores.stores import Stores
from tailrace_shared.stores.trigger_store import Trigger
from tailrace_shared.workflow.expressions.budget import DEFAULT_STEPS

_AT_ONCE: Final = 32
# Seconds for which the sender of a trigger delivers it itself.
_SENDER_S: Final = 2.0

_log = structlog.get_logger(__name__)


class Delivery(NamedTuple):
    """How far a trigger has been delivered.

    Attributes:
        matched: the number of waits that it has resolved.
        continues: whether a worker delivers it to the rest.
    """

    matched: int
    continues: bool


class Signals:
    """Stores triggers and resolves the waits that they match.

    Args:
        stores: the log, the triggers, the waiting index, the due index and the outputs.
        jobs: where a resolved execution's job is published.
        expression_steps: what the expressions of one template may cost.
    """

    def __init__(
        self,
        stores: Stores,
        jobs: JobPublisher,
        trigger_jobs: TriggerJobs,
        expression_steps: float = DEFAULT_STEPS,
    ) -> None:
        self._log = stores.log
        self._waiting = stores.waiting
        self._triggers = stores.triggers
        self._due = stores.due
        self._filters = TriggerFilters(stores.log, stores.outputs, expression_steps)
        self._jobs = jobs
        self._trigger_jobs = trigger_jobs

    async def emit(
        self,
        tenant: str,
        procedure: str,
        data: Any,
        key: str | None = None,
        sensitive: Sequence[str] = (),
    ) -> int:
        """Send a trigger; return the number of waits that it has resolved so far.

        Raises: as :meth:`send`.
        """
        return (await self.send(tenant, procedure, data, key, sensitive)).matched

    @within_limit
    async def send(
        self,
        tenant: str,
        procedure: str,
        data: Any,
        key: str | None = None,
        sensitive: Sequence[str] = (),
    ) -> Delivery:
        """Store a trigger and deliver it to as many waits as can be reached in a short time.

        A job is published before the first wait is resolved and withdrawn after the last one. So a
        worker delivers the rest if there is more, or if this process dies.

        Raises:
            InvalidIdError, TriggerTooLargeError: the trigger is invalid.
            UnavailableError: NATS did not answer; with a key the trigger may be sent again.
        """
        trigger = await self._triggers.publish(tenant, procedure, data, key, sensitive)
        waiting = await self._waiting.pointers(tenant, procedure)
        if not waiting:
            return Delivery(0, continues=False)
        await self._trigger_jobs.deliver_soon(tenant, trigger.sequence)
        deadline = time.monotonic() + _SENDER_S
        try:
            delivered = Delivered(trigger, SENDER_STEPS)
            delivery = await self._deliver(tenant, delivered, waiting, deadline)
        except (UnavailableError, NewerLogError) as error:
            _log.info("trigger: delivery continues", procedure=procedure, error=str(error))
            return Delivery(0, continues=True)
        if delivery.continues:
            await self._trigger_jobs.deliver_now(tenant, trigger.sequence)
        await self._trigger_jobs.withdraw(trigger.sequence)
        return delivery

    async def deliver(self, tenant: str, trigger: Trigger) -> int:
        """Deliver a stored trigger to all waits for it; return the number of waits it resolved.

        Idempotent: a wait that has the trigger already counts, and is resolved once.

        Raises:
            TailraceError: the first failed delivery; all others were attempted.
        """
        waiting = await self._waiting.pointers(tenant, trigger.procedure)
        return (await self._deliver(tenant, Delivered(trigger), waiting, None)).matched

    async def deliver_stored(self, tenant: str, sequence: int) -> None:
        """Deliver a trigger that another process has stored, unless it has expired.

        Raises: as :meth:`deliver`.
        """
        trigger = await self._triggers.get(tenant, sequence)
        if trigger is not None:
            await self.deliver(tenant, trigger)

    async def _deliver(
        self, tenant: str, delivered: Delivered, waiting: Sequence[WaitId], deadline: float | None
    ) -> Delivery:
        resolved = 0
        failures: list[BaseException] = []
        # All waits of an execution together: they are recorded in one commit.
        by_execution = [
            list(some)
            for _, some in itertools.groupby(sorted(waiting), lambda each: each.execution)
        ]
        for start in range(0, len(by_execution), _AT_ONCE):
            if deadline is not None and time.monotonic() > deadline:
                return Delivery(resolved, continues=True)
            some = itertools.chain.from_iterable(by_execution[start : start + _AT_ONCE])
            found = collections.defaultdict(list)
            for each in await self._waiting.get(tenant, some):
                found[each.execution_id].append(each)
            results = await asyncio.gather(
                *(self._offer(tenant, waits, delivered) for waits in found.values()),
                return_exceptions=True,
            )
            resolved += sum(result for result in results if isinstance(result, int))
            if any(isinstance(result, TooManyFiltersError) for result in results):
                return Delivery(resolved, continues=True)
            failures += [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise failures[0]
        return Delivery(resolved, continues=False)

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
        if earliest is None:
            return False
        return await self._resolve(tenant, waiting.execution_id, [waiting], earliest) == 1

    async def _first_match(self, tenant: str, waiting: Waiting, procedure: str) -> Trigger | None:
        after = waiting.began - waiting.lookback
        async for trigger in self._triggers.since(tenant, procedure, after):
            if await self._filters.matching(tenant, [waiting], Delivered(trigger)):
                return trigger
        return None

    async def _offer(self, tenant: str, waits: Sequence[Waiting], delivered: Delivered) -> int:
        """Offer a trigger to waits of one execution; return how many it resolved.

        Raises:
            TooManyFiltersError: the trigger's filters cost too much for this process.
        """
        trigger = delivered.trigger
        # The same rule as in `look_back`: either side must reject a trigger that is too old.
        recent = [each for each in waits if trigger.time > each.began - each.lookback]
        matching = await self._filters.matching(tenant, recent, delivered)
        if not matching:
            return 0
        return await self._resolve(tenant, matching[0].execution_id, matching, trigger)

    async def _resolve(
        self, tenant: str, execution: str, waits: Sequence[Waiting], trigger: Trigger
    ) -> int:
        """Resolve waits of one execution; return how many have this trigger now."""
        resolved: list[Waiting] = []
        refused: list[Waiting] = []

        def decide(state: ExecutionState) -> list[CommandRequested]:
            resolved.clear()
            refused.clear()
            commands_: list[CommandRequested] = []
            refusal: IllegalCommandError | None = None
            for waiting in waits:
                signal = _signal(execution, waiting.node_id, trigger)
                try:
                    command = commands.request_resolve(state, signal, time.time())
                except IllegalCommandError as error:
                    refusal = error
                    refused.append(waiting)
                    continue
                resolved.append(waiting)
                commands_ += [] if command is None else [command]
            # An append shows that the state was the newest, and with it what is refused.
            if refusal is not None and not commands_:
                raise refusal
            return commands_

        try:
            async with self._due.watched_request(tenant, execution):
                await self._log.request(tenant, execution, decide)
                await self._jobs.advance(tenant, execution, overtakes=True)
        except IllegalCommandError:
            if resolved:
                await self._jobs.advance(tenant, execution, overtakes=True)
        except ExecutionNotFoundError:
            resolved, refused = [], list(waits)
        # These steps have been resolved otherwise. Their worker removes the waits from the index;
        # remove them here, too, in case that worker died before.
        await asyncio.gather(*(self._waiting.remove(tenant, waiting) for waiting in refused))
        return len(resolved)


def _signal(execution: str, node_id: str, trigger: Trigger) -> Command:
    return Command(
        execution,
        "resolve",
        # The same id for every delivery of the trigger, so that it is recorded once.
        f"{trigger.sequence}-{node_id}",
        node_id=node_id,
        event=trigger.data,
        procedure=trigger.procedure,
        sensitive=[f"/event{place}" for place in trigger.sensitive],
    )
