"""What a commit brings about beside the log: waiting steps need somebody else to do something.

A step that waits for a signal must be found by those who bring one, one that waits for a child
run needs that run, one that waits for an actor needs its message. All of it follows from the
folded state and may be done again without harm; so a drive that takes over does it for every
step that waits, and nobody has to know how far an earlier one came.
"""

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
import structlog

from tailrace_shared.errors import (
    ExecutionNotFoundError,
    IllegalCommandError,
    InvalidIdError,
    OutputTooLargeError,
    TailraceError,
    UnavailableError,
    WorkflowNotFoundError,
)
from tailrace_shared.execution.evaluation import context_of, final_output
from tailrace_shared.execution.events import (
    MAX_VALUE_BYTES,
    TERMINAL,
    Origin,
    Parent,
    StepWait,
)
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution_log import History
from tailrace_shared.run_input import InvalidInputError
from tailrace_shared.waiting_index import Waiting, kept
from tailrace_shared.workflow.expressions import compile_expression
from tailrace_worker.engine.environment import Environment
from tailrace_worker.engine.outcomes import Erred, Outcome, Succeeded
from tailrace_worker.engine.patience import patiently
from tailrace_worker.engine.scheduler import Scheduler

MAX_CHILD_DEPTH: Final = 16
_CHILDREN_INTERVAL: Final = 0.1

_log = structlog.get_logger(__name__)

_Place = tuple[str, int]
"""A step and its attempt."""


class Consequences:
    """Does what waiting steps of one execution need. One for each drive.

    Args:
        environment: what all drives of this worker share.
        tenant: whose execution.
        execution: which execution.
        wake: called when something has been done, or a child run has ended.
    """

    def __init__(
        self, environment: Environment, tenant: str, execution: str, wake: Callable[[], None]
    ) -> None:
        self._env = environment
        self._tenant = tenant
        self._execution = execution
        self._wake = wake
        self._seen: dict[_Place, StepWait] = {}
        self._commands = 0
        self._late: set[_Place] = set()
        self._registered: dict[str, Waiting] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news: list[tuple[str, int, Outcome]] = []
        self._is_closed = False
        self._look_again: asyncio.TimerHandle | None = None
        self._state: ExecutionState

    @property
    def is_busy(self) -> bool:
        """Whether something is still to be done before the execution may be left alone."""
        return bool(self._tasks or self._news or self._look_again)

    def close(self) -> None:
        """Do nothing more."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        if self._look_again is not None:
            self._look_again.cancel()

    def take_news(self) -> list[tuple[str, int, Outcome]]:
        """Return how child runs have ended: the step, its attempt, and the outcome."""
        news, self._news = self._news, []
        return news

    async def recall(self) -> None:
        """Learn which entries of the waiting index an earlier drive has left."""
        for waiting in await self._env.waiting.of_execution(self._tenant, self._execution):
            self._registered[waiting.node_id] = waiting

    def follow(self, scheduler: Scheduler) -> None:
        """Do what the steps that have begun to wait need, and undo it for those that ended."""
        self._state = scheduler.state
        waiting: dict[_Place, StepWait] = {}
        for step in scheduler.waiting.values():
            if step.waiting is not None and not self._state.is_terminal:
                waiting[step.node_id, step.waiting.attempt] = step.waiting
        # While the execution was held, actors dropped the messages that they were sent.
        commands = len(self._state.commands)
        sends_again, self._commands = commands > self._commands, commands
        for place, wait in waiting.items():
            is_new = place not in self._seen or (sends_again and wait.wait == "actor")
            if is_new and self._state.cancel is None:
                self._begin(place, wait, scheduler)
        self._seen = waiting
        late, scheduler.late = scheduler.late, []
        for step_id in late:
            step = scheduler.state.steps[step_id]
            if step.waiting is not None and step.waiting.wait == "child":
                self._do(functools.partial(self._end_late, step, scheduler.lateness(step)))
        for node_id in [node for node in self._registered if not self._awaits(node)]:
            entry = self._registered.pop(node_id)
            self._do(functools.partial(self._env.waiting.remove, self._tenant, entry))

    async def forget_all(self) -> None:
        """Have nothing of an execution that has ended in the waiting index.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._patiently(self._forget_all)

    async def _forget_all(self) -> None:
        for waiting in await self._env.waiting.of_execution(self._tenant, self._execution):
            await self._env.waiting.remove(self._tenant, waiting)

    def look_at_children(self) -> None:
        """Find out whether child runs have ended; soon, and not more often than makes sense."""
        if self._look_again is None and any(wait.wait == "child" for wait in self._seen.values()):
            self._look_again = self._env.loop.call_later(_CHILDREN_INTERVAL, self._look)

    async def cancel_children(self) -> None:
        """Have all child runs cancelled that this execution waits for.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        # A run that is being started right now could not be cancelled yet.
        while self._tasks:
            await asyncio.wait(self._tasks)
        for wait in self._seen.values():
            if wait.wait == "child" and wait.child_execution_id is not None:
                reason = f"its parent {self._execution} was cancelled"
                await self._patiently(functools.partial(self._cancel_child, wait, reason))

    def _awaits(self, node_id: str) -> bool:
        step = self._state.steps.get(node_id)
        return (
            not self._state.is_terminal
            and step is not None
            and step.waiting is not None
            and step.waiting.wait == "signal"
        )

    def _begin(self, place: _Place, wait: StepWait, scheduler: Scheduler) -> None:
        step = scheduler.state.steps[place[0]]
        match wait.wait:
            case "signal":
                if step.resolution is None:
                    self._do(lambda: self._register(step, wait))
            case "child":
                self._do(lambda: self._attend_child(place, wait))
            case "actor":
                self._do(lambda: self._dispatch(place[0]))
            case "time":
                pass

    # Chores

    def _do(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._env.loop.create_task(self._done(chore))
        self._tasks.add(task)

    async def _done(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await self._patiently(chore)
        except UnavailableError:
            pass  # the drive that follows does it
        except TailraceError:
            _log.exception("left undone", tenant=self._tenant, execution=self._execution)
        finally:
            self._tasks.discard(asyncio.current_task())
            self._wake()

    async def _patiently(self, chore: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await patiently(chore, lambda: self._is_closed)

    # Signals

    async def _register(self, step: StepState, wait: StepWait) -> None:
        """Let a waiting step be found, then look for triggers that came before it could be."""
        known = self._registered.get(step.node_id)
        began = known.began if known else await self._began(step.node_id)
        entry = self._entry(step, wait, began)
        await self._env.waiting.put(self._tenant, entry)
        self._registered[step.node_id] = entry
        if entry.triggers:
            await self._env.signals.look_back(self._tenant, entry)

    async def _began(self, node_id: str) -> float:
        """Return the server's time of the commit with which a step began to wait."""
        async for commit in self._env.log.read(self._tenant, self._execution):
            for event in commit.events():
                if isinstance(event.data, StepWait) and event.data.node_id == node_id:
                    return commit.time
        raise UnavailableError("a replica lags behind what this worker has written")

    def _entry(self, step: StepState, wait: StepWait, began: float) -> Waiting:
        state = self._state
        context = None
        if wait.match is not None:
            with contextlib.suppress(TailraceError):
                context = context_of([compile_expression(wait.match)], state)
        return Waiting(
            execution_id=self._execution,
            node_id=step.node_id,
            workflow_id=state.workflow_id,
            workflow_name=state.workflow_name,
            reason=wait.reason,
            since=step.started_at or "",
            until=wait.until,
            triggers=wait.triggers,
            match=wait.match,
            lookback=wait.lookback,
            began=began,
            form=wait.form,
            input=kept(state.input),
            context=kept(context),
        )

    # Actors

    async def _dispatch(self, step_id: str) -> None:
        await self._env.send_to_actor(self._tenant, self._state, step_id)

    # Child runs

    def _look(self) -> None:
        self._look_again = None
        for place, wait in self._seen.items():
            if wait.wait == "child" and place not in self._late:
                self._do(functools.partial(self._attend_child, place, wait))
        self._wake()

    async def _attend_child(self, place: _Place, wait: StepWait) -> None:
        """Start the child run if it does not exist; tell how it ended if it has."""
        child = wait.child_execution_id or ""
        last = await self._env.log.last_commit(self._tenant, child)
        if last is None:
            await self._start_child(place, wait)
        elif isinstance(last.events()[-1], TERMINAL):
            self._tell(place, await self._outcome_of(child))

    async def _start_child(self, place: _Place, wait: StepWait) -> None:
        depth = self._state.depth + 1
        if depth > MAX_CHILD_DEPTH:
            message = f"runs within runs {depth} deep; the limit is {MAX_CHILD_DEPTH}"
            self._tell(place, Erred(message, retryable=False))
            return
        origin = Origin(parent=Parent(self._execution, place[0]), depth=depth)
        try:
            await self._env.starter.start_child(
                self._tenant,
                wait.child_execution_id or "",
                wait.child_workflow_id or "",
                wait.child_input,
                origin,
            )
        except (WorkflowNotFoundError, InvalidInputError, InvalidIdError) as error:
            self._tell(place, Erred(str(error), retryable=False))

    async def _outcome_of(self, child: str) -> Outcome:
        history: History = await self._env.log.load(self._tenant, child)
        state = history.state
        if state.status == "completed":
            return await self._output_of(state)
        return Erred(f"its run {child} was {state.status}: {state.error or 'no reason given'}")

    async def _output_of(self, child: ExecutionState) -> Outcome:
        output = child.output
        if child.output_omitted:
            workflow = await self._env.workflows.get(self._tenant, child.workflow_id, child.version)
            await self._env.outputs.fetch(child)
            output = final_output(child, workflow.definition)
        encoded = msgspec.json.encode(output)
        if len(encoded) <= MAX_VALUE_BYTES:
            return Succeeded(output)
        try:
            ref = await self._env.outputs.put(
                self._tenant, self._execution, child.execution_id, 1, encoded
            )
        except OutputTooLargeError as error:
            return Erred(str(error), retryable=False)
        return Succeeded(output, ref=ref)

    async def _end_late(self, step: StepState, message: str) -> None:
        """Have a child run cancelled that takes too long, then end the attempt."""
        if step.waiting is not None:
            place = (step.node_id, step.waiting.attempt)
            self._late.add(place)
            await self._cancel_child(step.waiting, message)
            self._tell(place, Erred(message))

    def _tell(self, place: _Place, outcome: Outcome) -> None:
        self._news.append((*place, outcome))

    async def _cancel_child(self, wait: StepWait, reason: str) -> None:
        # One that has ended meanwhile, or was never created, is as good as cancelled.
        with contextlib.suppress(IllegalCommandError, ExecutionNotFoundError):
            await self._env.commander.cancel(self._tenant, wait.child_execution_id or "", reason)
