"""What a commit brings about beside the log: waiting steps need somebody else to do something.

A step that waits for a signal must be found by those who bring one, one that waits for a child
run needs that run, one that waits for an actor needs its message. All of it follows from the
folded state and may be done again without harm; so a drive that takes over does it for every
step that waits, and nobody has to know how far an earlier one came.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import NamedTuple

from tailrace_shared.errors import ServiceError, UnavailableError
from tailrace_shared.execution.evaluation import context_of
from tailrace_shared.execution.events import StepWait
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.stores.indexes.waiting_index import Waiting, if_small
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_worker.engine.decide.outcomes import Outcome
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks
from tailrace_worker.engine.drive.children import Children, Place
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.background_tasks import BackgroundTasks
from tailrace_worker.engine.tasks.retry import patiently


class _Begin(NamedTuple):
    """When a step began to wait: by its event, and by the clock of NATS."""

    stamp: str
    time: float


class WaitEffects:
    """Does what waiting steps of one execution need. One for each drive.

    Args:
        services: what all drives of this worker share.
        tenant: whose execution.
        execution: which execution.
        wake: called when something has been done, or a child run has ended.
    """

    def __init__(
        self, services: EngineServices, tenant: str, execution: str, wake: Callable[[], None]
    ) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._chores = BackgroundTasks(wake, tenant=tenant, execution=execution)
        self._news: list[tuple[Place, Outcome]] = []
        self._children = Children(services, tenant, execution, self._chores, self._news.append)
        self._followed: Scheduler | None = None
        self._seen: dict[str, StepWait] = {}
        self._commands = 0
        self._registered: dict[str, Waiting] = {}
        self._state: ExecutionState
        self._sensitivity: SensitivityMarks | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be done before the execution may be left alone."""
        return bool(self._chores or self._news or self._children.is_busy)

    def close(self) -> None:
        """Do nothing more."""
        self._chores.close()
        self._children.close()

    def reopen(self, *, anew: bool) -> None:
        """Go on from where it was closed, nothing having been left to do.

        Args:
            anew: look at all that waits: others have driven the execution since.
        """
        self._chores.reopen()
        if anew:
            self._followed = None

    def take_news(self) -> list[tuple[Place, Outcome]]:
        """Return how child runs have ended: the step with its attempt, and the outcome.

        Raises:
            Exception: what a waiting step needs could not be done.
        """
        self._chores.check()
        news = self._news.copy()
        self._news.clear()
        return news

    async def recall(self) -> None:
        """Learn which entries of the waiting index an earlier drive has left."""
        for waiting in await self._services.stores.waiting.of_execution(
            self._tenant, self._execution
        ):
            self._registered[waiting.node_id] = waiting

    def follow(self, scheduler: Scheduler, since: int = 1) -> None:
        """Do what the steps that have begun to wait need, and undo it for those that ended.

        Args:
            scheduler: what has changed.
            since: the first sequence of the log that the changes may be at.
        """
        self._state, self._sensitivity = scheduler.state, scheduler.sensitivity
        changed = scheduler.take_changed()
        if scheduler is not self._followed:
            # It was made from the log: what has changed must be found.
            self._followed = scheduler
            changed = {*self._seen, *scheduler.waiting, *self._registered}
        for step_id in changed:
            self._follow(step_id, scheduler, since)
        for step_id in scheduler.take_late():
            step = scheduler.state.steps[step_id]
            if step.waiting is not None:
                place = (step_id, step.waiting.attempt)
                self._children.end_late(place, scheduler.lateness(step))
        self._send_again(scheduler)

    def look_at_children(self) -> None:
        """Find out whether child runs have ended."""
        self._children.look()

    async def cancel_children(self) -> None:
        """Have all child runs cancelled that this execution waits for.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        await self._children.cancel_all()

    async def conclude(self, *, awaits: bool) -> None:
        """Leave nothing of an execution that has ended.

        Args:
            awaits: whether some of its steps may be in the waiting index.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        await self._chores.all_done()
        self._chores.check()
        if awaits:
            await patiently(self._forget_all, lambda: False)

    def _follow(self, step_id: str, scheduler: Scheduler, since: int) -> None:
        step = scheduler.waiting.get(step_id)
        wait = None if step is None or self._state.is_terminal else step.waiting
        before = self._seen.get(step_id)
        if before is not None and (wait is None or wait.attempt != before.attempt):
            del self._seen[step_id]
            self._children.remove((step_id, before.attempt))
        entry = self._registered.get(step_id)
        if entry is not None and (wait is None or wait.wait != "signal"):
            del self._registered[step_id]
            self._chores.do(
                functools.partial(self._services.stores.waiting.remove, self._tenant, entry)
            )
        if step is not None and wait is not None and step_id not in self._seen:
            self._seen[step_id] = wait
            if self._state.cancel is None:
                self._begin(step, wait, since)
            elif wait.wait == "child":
                self._children.add_known((step_id, wait.attempt), wait)

    def _begin(self, step: StepState, wait: StepWait, since: int) -> None:
        match wait.wait:
            case "signal":
                if step.resolution is None:
                    self._chores.do(functools.partial(self._register, step, wait, since))
            case "child":
                place = (step.node_id, wait.attempt)
                self._children.add(place, wait, self._state.depth + 1)
            case "actor":
                self._chores.do(functools.partial(self._dispatch, step.node_id))
            case "time":
                pass

    # Signals

    async def _register(self, step: StepState, wait: StepWait, since: int) -> None:
        """Let a waiting step be found, then look for triggers that came before it could be."""
        known = self._registered.get(step.node_id)
        if known is None:
            begin = await self._begun(step.node_id, since)
        else:
            begin = _Begin(known.since, known.began)
        entry = self._entry(step, wait, begin)
        await self._services.stores.waiting.put(self._tenant, entry)
        self._registered[step.node_id] = entry
        if self._seen.get(step.node_id) is not wait:
            # The signal has come meanwhile, and found nothing to strike out.
            del self._registered[step.node_id]
            await self._services.stores.waiting.remove(self._tenant, entry)
        elif entry.triggers:
            await self._services.commands.signals.look_back(self._tenant, entry)

    async def _begun(self, node_id: str, since: int) -> _Begin:
        """Return when a step began to wait."""
        async for commit in self._services.stores.log.read(self._tenant, self._execution, since):
            for event in commit.events():
                if isinstance(event.data, StepWait) and event.data.node_id == node_id:
                    return _Begin(event.timestamp, commit.time)
        raise UnavailableError("a replica lags behind what this worker has written")

    async def _forget_all(self) -> None:
        for waiting in await self._services.stores.waiting.of_execution(
            self._tenant, self._execution
        ):
            await self._services.stores.waiting.remove(self._tenant, waiting)

    def _entry(self, step: StepState, wait: StepWait, begin: _Begin) -> Waiting:
        state = self._state
        context = None
        if wait.match is not None:
            with contextlib.suppress(ServiceError):
                context = context_of([compile_expression(wait.match)], state)
        return Waiting(
            execution_id=self._execution,
            node_id=step.node_id,
            workflow_id=state.workflow_id,
            workflow_name=state.workflow_name,
            reason=wait.reason,
            since=begin.stamp,
            until=wait.until,
            triggers=wait.triggers,
            match=wait.match,
            lookback=wait.lookback,
            began=begin.time,
            form=wait.form,
            input=if_small(state.input),
            context=if_small(context),
            sensitive=[]
            if self._sensitivity is None
            else self._sensitivity.wait_entry_pointers(context),
        )

    # Actors

    def _send_again(self, scheduler: Scheduler) -> None:
        """Send messages that actors may have dropped while the execution was held."""
        commands = len(self._state.commands)
        if commands > self._commands and self._state.cancel is None:
            for step_id, wait in self._seen.items():
                if wait.wait == "actor" and step_id in scheduler.waiting:
                    self._chores.do(functools.partial(self._dispatch, step_id))
        self._commands = commands

    async def _dispatch(self, step_id: str) -> None:
        await self._services.send_to_actor(self._tenant, self._state, step_id)
