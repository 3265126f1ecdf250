"""The child runs that one execution waits for: started, looked after, cancelled.

A child's id is in its parent's log before the child exists; so starting it again, looking for its
end again and cancelling it again do no harm, whichever drive does it.
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
from tailrace_worker.engine.tasks.retry import patiently

MAX_CHILD_DEPTH: Final = 16
_INTERVAL: Final = 0.1

Place = tuple[str, int]
"""A step and its attempt."""
Tell = Callable[[tuple[Place, Outcome]], None]


class Children:
    """Looks after the child runs of one execution.

    Args:
        services: what all drives of this worker share.
        tenant: whose execution.
        execution: the parent.
        chores: carries out what is to be done.
        tell: called with a step whose child run has ended, and the outcome.
    """

    def __init__(
        self,
        services: EngineServices,
        tenant: str,
        execution: str,
        chores: BackgroundTasks,
        tell: Tell,
    ) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._chores = chores
        self._tell = tell
        self._open: dict[Place, StepWait] = {}
        self._looking: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether somebody is about to look whether children have ended."""
        return self._looking is not None

    def close(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def add(self, place: Place, wait: StepWait, depth: int) -> None:
        """Begin to look after the child run of a step; ``depth`` is the child's."""
        self.add_known(place, wait)
        self._chores.do(functools.partial(self._attend, place, wait, depth))

    def add_known(self, place: Place, wait: StepWait) -> None:
        """Know of the child run of a step, to cancel it."""
        self._open[place] = wait

    def remove(self, place: Place) -> None:
        """Look after a child run no longer: its step has gone on."""
        self._open.pop(place, None)

    def end_late(self, place: Place, message: str) -> None:
        """Have a child run cancelled that takes too long, then end its step's attempt."""
        wait = self._open.pop(place, None)
        if wait is not None:
            self._chores.do(functools.partial(self._end_late, place, wait, message))

    def look(self) -> None:
        """Find out which have ended; soon, and not more often than makes sense."""
        if self._looking is None and self._open:
            self._looking = self._services.loop.call_later(_INTERVAL, self._look)

    async def cancel_all(self) -> None:
        """Have all of them cancelled.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        # One that is being started right now could not be cancelled yet.
        await self._chores.all_done()
        reason = f"its parent {self._execution} was cancelled"
        for wait in list(self._open.values()):
            await patiently(functools.partial(self._cancel, wait, reason), lambda: False)

    def _look(self) -> None:
        self._looking = None
        for place, wait in self._open.items():
            self._chores.do(functools.partial(self._see, place, wait))

    async def _attend(self, place: Place, wait: StepWait, depth: int) -> None:
        """Start the child run if it does not exist; tell how it ended if it has."""
        last = await self._services.stores.log.last_commit(self._tenant, _child(wait))
        # One that has not begun may have lost its job with the worker that created it.
        if last is None or isinstance(last.events()[-1], ExecutionQueued):
            await self._start(place, wait, depth)
        elif isinstance(last.events()[-1], TERMINAL):
            self._tell((place, await self._outcome(place, _child(wait), last.sequence)))

    async def _see(self, place: Place, wait: StepWait) -> None:
        last = await self._services.stores.log.last_commit(self._tenant, _child(wait))
        if last is not None and place in self._open and isinstance(last.events()[-1], TERMINAL):
            self._tell((place, await self._outcome(place, _child(wait), last.sequence)))

    async def _start(self, place: Place, wait: StepWait, depth: int) -> None:
        if depth > MAX_CHILD_DEPTH:
            message = f"runs within runs {depth} deep; the limit is {MAX_CHILD_DEPTH}"
            self._tell((place, Erred(message, retryable=False)))
            return
        parent = Parent(self._execution, place[0])
        origin = Origin(parent=parent, depth=depth, sensitive=tuple(wait.sensitive))
        try:
            await self._services.commands.starter.start_child(
                self._tenant, _child(wait), wait.child_workflow_id or "", wait.child_input, origin
            )
        except (UnavailableError, NewerLogError, JetStreamError):
            raise
        except ServiceError as error:
            self._tell((place, Erred(str(error), retryable=False)))

    async def _outcome(self, place: Place, child: str, end: int) -> Outcome:
        """Return what the end of a child run, at sequence ``end`` of its log, makes of its step."""
        try:
            # To a replica that lags the run has not ended yet.
            state = (await self._services.stores.log.load(self._tenant, child, at_least=end)).state
            if state.status == "completed":
                return await self._succeeded(place, state)
        except (UnavailableError, NewerLogError, JetStreamError):
            raise
        except ServiceError as error:
            # Without an outcome the step would wait for ever.
            return Erred(f"the output of its run {child}: {error}", retryable=False)
        return Erred(f"its run {child} was {state.status}: {state.error or 'no reason given'}")

    async def _succeeded(self, place: Place, child: ExecutionState) -> Outcome:
        output = child.output
        if child.output_omitted:
            workflow = await self._services.stores.workflows.get(
                self._tenant, child.workflow_id, child.version
            )
            await self._services.stores.outputs.fetch(child)
            output = final_output(child, workflow.definition)
        encoded = msgspec.json.encode(output)
        if len(encoded) <= MAX_VALUE_BYTES:
            return Succeeded(output, sensitive=child.output_sensitive)
        step_id, attempt = place
        ref = await self._services.stores.outputs.put(
            self._tenant, self._execution, step_id, attempt, encoded
        )
        return Succeeded(output, ref=ref, sensitive=child.output_sensitive)

    async def _end_late(self, place: Place, wait: StepWait, message: str) -> None:
        await self._cancel(wait, message)
        self._tell((place, Erred(message)))

    async def _cancel(self, wait: StepWait, reason: str) -> None:
        # One that has ended meanwhile, or was never created, is as good as cancelled.
        with contextlib.suppress(IllegalCommandError, ExecutionNotFoundError):
            await self._services.commands.executions.cancel(self._tenant, _child(wait), reason)


def _child(wait: StepWait) -> str:
    return wait.child_execution_id or ""
