"""Do what waiting steps need beside the log.

A step that waits for a signal needs an entry in the waiting index, one that waits for a child run
needs that run, one that waits for an actor needs a message. All of it follows from the folded state
and is idempotent. So a drive that takes over repeats it for every waiting step, and need not know
how far an earlier drive came.
"""

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tailrace_shared.commands.trigger_filters import compile_filter
from tailrace_shared.errors import ServiceError, UnavailableError
from tailrace_shared.execution.evaluation import context_of
from tailrace_shared.execution.events import StepWait
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.stores.indexes.waiting_index import Waiting, if_small
from tailrace_worker.engine.decide.outcomes import Outcome
from tailrace_worker.engine.decide.scheduler import Scheduler
from tailrace_worker.engine.decide.sensitivity import SensitivityMarks
from tailrace_worker.engine.drive.children import Children, StepAttempt
from tailrace_worker.engine.recovery.queue_backlog import QueueBacklog
from tailrace_worker.engine.services.actor_job import ActorJob, actor_name, message_for
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.tasks.background_tasks import BackgroundTasks
from tailrace_worker.engine.tasks.retry import retry_unavailable


class _WaitBegin(NamedTuple):
    """When a step began to wait: the timestamp of its event, and the time of its commit."""

    stamp: str
    time: float


class WaitEffects:
    """Does what the waiting steps of one execution need. One for each drive.

    Args:
        services: what all drives of this worker share.
        tenant: the tenant of the execution.
        execution: the id of the execution.
        wake: called when some of it is done, or a child run has ended.
    """

    def __init__(
        self, services: EngineServices, tenant: str, execution: str, wake: Callable[[], None]
    ) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._tasks = BackgroundTasks(wake, tenant=tenant, execution=execution)
        self._ended_children: list[tuple[StepAttempt, Outcome]] = []
        self._children = Children(
            services, tenant, execution, self._tasks, self._ended_children.append
        )
        self._scheduler: Scheduler | None = None
        self._active: dict[str, StepWait] = {}
        self._command_count = 0
        # Steps whose message is being sent to an actor.
        self._sending: set[str] = set()
        self._registered: dict[str, Waiting] = {}
        self._state: ExecutionState
        self._input: Any = None
        self._indexed_input: Any = None
        self._sensitivity: SensitivityMarks | None = None

    @property
    def is_busy(self) -> bool:
        """Whether work is left that must be done before the drive may leave the execution."""
        return bool(self._tasks or self._ended_children or self._children.is_busy)

    def close(self) -> None:
        """Cancel all work."""
        self._tasks.close()
        self._children.close()

    def reopen(self, *, rescan: bool) -> None:
        """Continue after :meth:`close`, which must have left no work.

        Args:
            rescan: whether to examine all waiting steps, because other workers have driven since.
        """
        self._tasks.reopen()
        if rescan:
            self._scheduler = None

    def take_ended_children(self) -> list[tuple[StepAttempt, Outcome]]:
        """Return the steps whose child runs have ended, each with its attempt and outcome."""
        news = self._ended_children.copy()
        self._ended_children.clear()
        return news

    def raise_failure(self) -> None:
        """Raise the error of work that was given up, if any.

        To be called while no attempt runs: the error ends the drive.
        """
        self._tasks.raise_failure()

    async def load_registered(self) -> None:
        """Load the entries of the waiting index that an earlier drive has left."""
        for waiting in await self._services.stores.waiting.of_execution(
            self._tenant, self._execution
        ):
            self._registered[waiting.node_id] = waiting

    def update(self, scheduler: Scheduler, since: int = 1) -> None:
        """Register steps that have begun to wait, and unregister those that have ended.

        Registering a step adds its index entry, starts its child run or sends its actor message.

        Args:
            scheduler: knows the steps that have changed.
            since: the first sequence of the log that may hold the changes.
        """
        self._state, self._sensitivity = scheduler.state, scheduler.sensitivity
        changed = scheduler.take_changed()
        if scheduler is not self._scheduler:
            # A scheduler made from the log does not know what has changed since the last one.
            self._scheduler = scheduler
            changed = {*self._active, *scheduler.waiting, *self._registered}
        for step_id in changed:
            self._update_step(step_id, scheduler, since)
        for step_id in scheduler.take_timed_out():
            step = scheduler.state.steps[step_id]
            if step.waiting is not None:
                step_attempt = (step_id, step.waiting.attempt)
                self._children.time_out(step_attempt, scheduler.timeout_message(step))
        self._resend_dropped(scheduler)

    def check_children(self) -> None:
        """Check whether child runs have ended."""
        self._children.check_soon()

    async def cancel_children(self) -> None:
        """Cancel all child runs that this execution waits for.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        await self._children.cancel_all()

    async def clean_up(self, *, awaits: bool) -> None:
        """Remove everything that belongs to waits of an execution that has ended.

        Args:
            awaits: whether some of its steps may be in the waiting index.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        await self._tasks.join()
        self._tasks.raise_failure()
        if awaits:
            await retry_unavailable(self._remove_all, lambda: False)

    def _update_step(self, step_id: str, scheduler: Scheduler, since: int) -> None:
        step = scheduler.waiting.get(step_id)
        wait = None if step is None or self._state.is_terminal else step.waiting
        before = self._active.get(step_id)
        if before is not None and (wait is None or wait.attempt != before.attempt):
            del self._active[step_id]
            self._children.remove((step_id, before.attempt))
        entry = self._registered.get(step_id)
        if entry is not None and (wait is None or wait.wait != "signal"):
            del self._registered[step_id]
            self._tasks.start(
                functools.partial(self._services.stores.waiting.remove, self._tenant, entry)
            )
        if step is not None and wait is not None and step_id not in self._active:
            self._active[step_id] = wait
            if not self._state.must_stop:
                self._start(step, wait, since)
            elif wait.wait == "child":
                self._children.add_running((step_id, wait.attempt), wait)

    def _start(self, step: StepState, wait: StepWait, since: int) -> None:
        match wait.wait:
            case "signal":
                if step.resolution is None:
                    self._tasks.start(functools.partial(self._register, step, wait, since))
            case "child":
                step_attempt = (step.node_id, wait.attempt)
                self._children.add(step_attempt, wait, self._state)
            case "actor":
                self._dispatch(step.node_id)
            case "time":
                pass

    # Signals

    async def _register(self, step: StepState, wait: StepWait, since: int) -> None:
        """Put a waiting step into the index, then look for triggers that came before that."""
        known = self._registered.get(step.node_id)
        if known is None:
            begin = await self._find_begin(step.node_id, since)
        else:
            begin = _WaitBegin(known.since, known.began)
        entry = await self._entry(step, wait, begin)
        await self._services.stores.waiting.put(self._tenant, entry)
        self._registered[step.node_id] = entry
        if self._active.get(step.node_id) is not wait:
            # The signal came in the meantime, when there was no entry to remove.
            del self._registered[step.node_id]
            await self._services.stores.waiting.remove(self._tenant, entry)
        elif entry.triggers:
            await self._services.commands.signals.look_back(self._tenant, entry)

    async def _find_begin(self, node_id: str, since: int) -> _WaitBegin:
        """Return when a step began to wait."""
        async for commit in self._services.stores.log.read(self._tenant, self._execution, since):
            for event in commit.events():
                if isinstance(event.data, StepWait) and event.data.node_id == node_id:
                    return _WaitBegin(event.timestamp, commit.time)
        raise UnavailableError("a replica lags behind what this worker has written")

    async def _remove_all(self) -> None:
        for waiting in await self._services.stores.waiting.of_execution(
            self._tenant, self._execution
        ):
            await self._services.stores.waiting.remove(self._tenant, waiting)

    async def _entry(self, step: StepState, wait: StepWait, begin: _WaitBegin) -> Waiting:
        state = self._state
        context = None
        if wait.match is not None:
            with contextlib.suppress(ServiceError):
                context = context_of([await compile_filter(wait.match)], state)
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
            input=self._small_input(),
            context=if_small(context),
            sensitive=[]
            if self._sensitivity is None
            else self._sensitivity.wait_entry_pointers(context),
            variables=wait.variables,
        )

    def _small_input(self) -> Any:
        """Return the execution's input for the index; its size is computed once for all waits."""
        if self._input is not self._state.input:
            self._input = self._state.input
            self._indexed_input = if_small(self._input)
        return self._indexed_input

    # Actors

    def check_actors(self, scheduler: Scheduler) -> None:
        """Send messages again that NATS may have lost, or whose attempt's end it may have lost."""
        steps = scheduler.remote
        if steps and not scheduler.state.must_stop and not scheduler.state.is_held:
            self._tasks.start(functools.partial(self._send_again, steps))

    async def _send_again(self, steps: Sequence[StepState]) -> None:
        services, busy = self._services, dict[str, bool]()
        quiet_since = services.now() - services.actor_check_s
        for step in steps:
            attempt = step.attempt
            if step.status != "running":
                attempt += 1
                if step.node_type not in busy:
                    backlog = QueueBacklog(
                        services.jetstream, services.subjects, actor_name(step.node_type)
                    )
                    oldest = await backlog.oldest()
                    busy[step.node_type] = oldest is not None and oldest < quiet_since
                if busy[step.node_type]:
                    continue  # its message may be among those that no worker has got yet
            # A worker that receives it checks whether another one runs the attempt.
            job = ActorJob(self._tenant, self._execution, step.node_id, step.node_type, attempt)
            await services.publish(message_for(services.subjects, job))

    def _resend_dropped(self, scheduler: Scheduler) -> None:
        """Send messages again that actors may have dropped while the execution was held."""
        commands = len(self._state.commands)
        if commands > self._command_count and not self._state.must_stop:
            for step_id, wait in self._active.items():
                if wait.wait == "actor" and step_id in scheduler.waiting:
                    self._dispatch(step_id)
        self._command_count = commands

    def _dispatch(self, step_id: str) -> None:
        """Send the message of a step, once at a time.

        Of two messages with one id that arrive together, a leader of several replicas refuses one.
        """
        if step_id not in self._sending:
            self._sending.add(step_id)
            self._tasks.start(functools.partial(self._send, step_id))

    async def _send(self, step_id: str) -> None:
        try:
            sent: dict[str, str] = {}
            while True:
                job = self._services.actor_job(self._tenant, self._state, step_id)
                # A command that arrives meanwhile changes the message's id.
                if job is None or job.headers == sent:
                    return
                await self._services.publish(job)
                sent = job.headers
        finally:
            self._sending.discard(step_id)
