"""Drive one execution from where its log stands until it need not be driven.

The package docstring explains the turns of a drive, and what happens when two workers drive the
same execution. A drive that has left its execution to wait may be resumed; it then continues from
the commits that are new.
"""

import contextlib
import functools
import random
import time
from collections.abc import Callable
from typing import Final

import msgspec
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.errors import (
    JetStreamError,
    UnavailableError,
    WorkflowNotFoundError,
    WrongLastSequenceError,
)
from tailrace_shared.execution.events import Event, StepStarted
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.fenced_append import WRITER
from tailrace_shared.stores.log_records import History
from tailrace_worker.engine.decide.outcomes import MAX_IDLE_S, Succeeded, end_event, failed, lost
from tailrace_worker.engine.decide.scheduler import MAX_DECISIONS, Scheduler
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.lifecycle import Lifecycle
from tailrace_worker.engine.drive.local_attempts import LocalAttempts
from tailrace_worker.engine.drive.local_state import LocalState
from tailrace_worker.engine.drive.log_reader import DisplacedError, LogWentBackError
from tailrace_worker.engine.drive.wait_effects import WaitEffects
from tailrace_worker.engine.run.output_budget import OutputMemoryError
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.services.progress_estimates import ProgressEstimates
from tailrace_worker.engine.tasks.wakeup import WakeUp

_MAX_TURN_EVENTS: Final = 64
_MAX_TURN_S: Final = 0.005
# A subscription costs more than most steps. A command also has a job, which finds this drive.
_SUBSCRIBE_AFTER_S: Final = 2.0

_log = structlog.get_logger(__name__)

_Decide = Callable[[list[Event]], tuple[list[Event], bool]]


class Drive:
    """Drives one execution. Lives on the engine's event loop.

    Args:
        services: what all drives of this worker share.
        tenant: the tenant of the execution.
        execution: the id of the execution.

    Attributes:
        is_resumable: whether it has left the execution to wait, and may be resumed.
    """

    def __init__(self, services: EngineServices, tenant: str, execution: str) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._wakeup = WakeUp(services.loop, _SUBSCRIBE_AFTER_S)
        self._local = LocalState(services, tenant, execution, self._wakeup.set)
        self._writer = self._local.writer
        self._scheduler: Scheduler
        self._estimates: ProgressEstimates
        # Not a method of the drive: a reference cycle would keep all outputs in memory until the
        # garbage collector runs.
        self._attempts = LocalAttempts(services, tenant, execution, self._wakeup.set)
        self._wait_effects = WaitEffects(services, tenant, execution, self._wakeup.set)
        self._lifecycle = Lifecycle(services, tenant, self._writer)
        # Steps that have started in the log, and whose attempt is not launched here yet.
        self._unlaunched: list[str] = []
        self._read_requested = False
        self._is_draining = False
        self._grace_expired = False
        self._subscription: Subscription | None = None
        # The first sequence of the log that it had not read when it left.
        self._suspended_at = 0
        self.is_resumable = False

    # Called by others, on the same loop

    @property
    def read_requested(self) -> bool:
        """Whether the log is to be read, and has not been read yet."""
        return self._read_requested

    @property
    def memory(self) -> int:
        """Approximate memory of the drive in bytes, once it has run."""
        return self._local.memory

    def request_read(self) -> None:
        """Read the log in the next turn: a command was appended, or a child run has ended."""
        self._read_requested = True
        self._wakeup.set()

    def drain(self, grace: float) -> None:
        """Start no steps, and hand the execution over once running attempts have ended.

        Args:
            grace: seconds after which attempts that still run are interrupted.
        """
        self._is_draining = self._local.is_draining = True
        self._services.loop.call_later(grace, self._end_grace)
        self._wakeup.set()

    def _end_grace(self) -> None:
        self._grace_expired = True
        self._wakeup.set()

    # Turns

    async def resume(self) -> History | None:
        """Apply what was appended since the drive left; None if the log must be read anew.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        self._wakeup.clear()
        self._read_requested, self._subscription = False, None
        try:
            await self._local.catch_up()
        except (DisplacedError, LogWentBackError):
            return None
        state = self._scheduler.state
        if state.is_terminal:
            return None
        last_sequence, last_writer = self._writer.last_sequence, self._local.last_writer
        # The first drive has added a row that was missing.
        return History(state, last_sequence, last_writer, is_listed=True)

    async def run(self, history: History) -> DriveResult:
        """Drive the execution from ``history``; a resumed drive passes the history of ``resume``.

        Raises:
            UnavailableError: NATS did not answer for long; the job should be tried again.
        """
        self._writer.last_sequence = history.last_sequence
        try:
            return await self._run(history)
        except DisplacedError:
            _log.info("drive displaced", tenant=self._tenant, execution=self._execution)
            return DriveResult(End.DISPLACED, self._writer.last_sequence)
        except WrongLastSequenceError:
            # Before its first turn, for example while a client cancels an execution that is queued.
            return DriveResult(End.READ_AGAIN, self._writer.last_sequence)
        except LogWentBackError as error:
            _log.error(
                "NATS has lost commits",
                tenant=self._tenant,
                execution=self._execution,
                error=str(error),
            )
            return DriveResult(End.READ_AGAIN, self._writer.last_sequence)
        finally:
            self._attempts.abandon()
            self._local.release_outputs()
            self._wait_effects.close()
            self._wakeup.stop()
            if self._subscription is not None:
                with contextlib.suppress(nats.errors.Error):
                    await self._subscription.unsubscribe()

    async def fail(self, history: History, message: str) -> DriveResult:
        """End an execution that cannot be driven.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        self._writer.last_sequence = history.last_sequence
        return await self._lifecycle.fail(history.state, message)

    async def _run(self, history: History) -> DriveResult:
        if self.is_resumable:
            return await self._continue()
        self._local.start_from(history)
        state = history.state
        try:
            plan = await self._services.plan(self._tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError as error:
            return await self._lifecycle.fail(state, str(error))
        self._lifecycle.plan = plan
        if (result := await self._lifecycle.begin(history, plan)) is not None:
            return result
        self._scheduler = self._attempts.scheduler = self._local.schedule(plan, history)
        if state.is_terminal:
            return await self._finish()
        self._estimates = await self._services.progress_estimates(self._tenant, plan, state.version)
        try:
            await self._local.fetch_outputs(is_enforced=True)
        except OutputMemoryError as error:
            if error.is_permanent:
                return await self._lifecycle.fail(state, str(error))
            raise UnavailableError(str(error)) from None
        if plan.awaits:
            await self._wait_effects.load_registered()
        self._wait_effects.update(self._scheduler)
        self._check_actors()
        self._note_timer()
        return await self._drive(self._record_lost_attempts(history.last_writer))

    async def _continue(self) -> DriveResult:
        self.is_resumable = False
        have_others_driven = self._local.last_writer != self._services.worker_id
        self._wait_effects.reopen(rescan=have_others_driven)
        if have_others_driven and self._scheduler.plan.awaits:
            await self._wait_effects.load_registered()
        self._wait_effects.update(self._scheduler, self._suspended_at)
        self._wait_effects.check_children()
        self._check_actors()
        self._note_timer()
        return await self._drive(self._record_lost_attempts(self._local.last_writer))

    def _note_timer(self) -> None:
        due, now = self._scheduler.next_due, self._services.now()
        if due is not None and due <= now:
            self._services.counts.timer_lag.observe(now - due)

    async def _finish(self) -> DriveResult:
        self._wait_effects.update(self._scheduler)
        await self._wait_effects.clean_up(awaits=self._scheduler.plan.awaits)
        return await self._lifecycle.finished(self._scheduler.state)

    async def _drive(self, facts: list[Event]) -> DriveResult:
        while True:
            more = await self._turn(facts, self._decide)
            if self._scheduler.must_stop(self._services.now()):
                facts = await self._attempts.interrupt(self._services.cancel_grace)
                await self._wait_effects.cancel_children()
                await self._turn(facts, self._stop)
                if not self._scheduler.state.is_terminal:
                    facts = []
                    continue
            elif not self._is_draining:
                self._launch_started()
            if self._scheduler.state.is_terminal:
                self._services.statistics.note(self._tenant, self._scheduler.state)
                return await self._finish()
            if not more and (result := await self._wait_or_leave()) is not None:
                return result
            # Clear before the log is read: a request that comes meanwhile must wake the next wait.
            self._wakeup.clear()
            if self._read_requested:
                self._read_requested = False
                await self._local.read_new_commits()
                self._wait_effects.check_children()
            facts = self._collect_facts()

    async def _turn(self, facts: list[Event], decide: _Decide) -> bool:
        """Commit facts and what follows from them; return whether there is more to decide."""
        while True:
            if self._services.slices.is_full:
                await self._services.slices.wait()
            begun = time.monotonic()
            batch, more = decide(facts)
            self._services.slices.add(time.monotonic() - begun)
            self._estimates.fill_in(batch, self._scheduler.state, self._services.now())
            since = self._writer.last_sequence + 1
            stored, lost = await self._local.append(batch)
            if lost is not None:
                # Of a turn too large for one commit the first events, its facts, may be stored.
                facts = await self._rebase(facts[stored:], lost)
                continue
            self._unlaunched += [
                event.data.node_id for event in batch if isinstance(event, StepStarted)
            ]
            self._wait_effects.update(self._scheduler, since)
            return more

    def _decide(self, facts: list[Event]) -> tuple[list[Event], bool]:
        """Return ``facts`` and the decisions that follow, up to the size of one commit."""
        batch = list(facts)
        if self._is_draining:
            return batch, False
        until = time.monotonic() + _MAX_TURN_S
        while decisions := self._scheduler.decide(self._services.now()):
            # Instant steps beyond the time of a turn are launched as other steps are.
            ends = [
                end
                for event in decisions
                if isinstance(event, StepStarted)
                and self._attempts.is_instant(event.data.node_id)
                and time.monotonic() < until
                for end in self._attempts.run_instant(event.data.node_id)
            ]
            batch += decisions
            batch += ends
            if self._scheduler.is_tired:
                return batch, True
            if not ends and len(decisions) < MAX_DECISIONS:
                break
            if len(batch) >= _MAX_TURN_EVENTS or time.monotonic() > until:
                return batch, True
        return batch, False

    def _stop(self, facts: list[Event]) -> tuple[list[Event], bool]:
        return [*facts, *self._scheduler.stopped(self._services.now())], False

    def _hand_over(self, facts: list[Event]) -> tuple[list[Event], bool]:
        now = self._services.now()
        interrupted = [
            self._scheduler.record(
                lost(
                    step,
                    self._scheduler.plan.step(step.node_id).node,
                    "handover",
                    "its worker is stopping",
                    now,
                )
            )
            for step in self._scheduler.attended
        ]
        return [*facts, *interrupted], False

    async def _wait_or_leave(self) -> DriveResult | None:
        """Wait until something happens; return a result if the drive should end instead."""
        if self._is_draining:
            if self._attempts and not self._grace_expired:
                await self._wait(None)
                return None
            await self._turn(await self._attempts.interrupt(0), self._hand_over)
            return DriveResult(End.HANDED_OVER, self._writer.last_sequence)
        due = self._scheduler.next_due
        delay = None if due is None else max(0.0, due - self._services.now())
        is_idle = not (self._attempts or self._wait_effects.is_busy or self._wakeup.is_set)
        if is_idle:
            self._wait_effects.raise_failure()
        if is_idle and (delay is None or delay > MAX_IDLE_S):
            return await self._suspend(due)
        await self._wait(delay)
        return None

    async def _suspend(self, due: float | None) -> DriveResult | None:
        """Leave the execution to a timer or a job; None if something happened in the meantime."""
        await self._index_status()
        await self._local.retry(functools.partial(self._put_deadline, due))
        if self._wakeup.is_set:
            return None
        # An execution that waits for a signal is paused, perhaps for days: its drive is not cached.
        # Nor is one whose plan must be made anew, because a worker may publish what it lacks.
        is_running = self._scheduler.state.status == "running"
        self.is_resumable = is_running and not self._scheduler.plan.is_provisional
        self._suspended_at = self._writer.last_sequence + 1
        if self._writer.bytes_written:
            self._local.last_writer = self._services.worker_id
        return DriveResult(End.WAITING, self._writer.last_sequence, due)

    async def _put_deadline(self, due: float | None) -> None:
        """Record the deadline by which this execution must be driven again.

        The sweeper enforces it.
        """
        if self._scheduler.plan.has_actors and self._scheduler.is_active:
            # Less and less often: a step may take hours.
            check = self._services.now() + max(self._silence, self._services.actor_check_s)
            due = check if due is None else min(due, check)
        if due is None:
            await self._services.stores.due.remove(self._tenant, self._execution)
        else:
            await self._services.stores.due.put(self._tenant, self._execution, due)

    @property
    def _silence(self) -> float:
        """Seconds since the last commit."""
        return self._services.now() - self._local.last_commit_at

    def _check_actors(self) -> None:
        """Check the steps of actors if nothing has happened for long: NATS may have lost messages.

        Only such a message brings an execution back that waits for an actor.
        """
        if self._scheduler.plan.has_actors and self._silence >= self._services.actor_check_s:
            self._wait_effects.check_actors(self._scheduler)

    async def _wait(self, delay: float | None) -> None:
        if await self._wakeup.wait(delay, notice_silence=self._subscription is None):
            await self._subscribe()

    # Steps

    def _launch_started(self) -> None:
        steps, maps = self._scheduler.state.steps, self._scheduler.plan.maps
        # Instant steps have ended by now, and a map runs as its items.
        self._attempts.launch(
            step_id
            for step_id in self._unlaunched
            if steps[step_id].runs_locally and step_id not in maps
        )
        self._unlaunched.clear()

    def _collect_facts(self) -> list[Event]:
        """Return what has happened since the last turn, recorded with the scheduler."""
        facts = self._attempts.take_facts()
        for (step_id, attempt), outcome in self._wait_effects.take_ended_children():
            step = self._scheduler.state.steps[step_id]
            # The end of a child run may come twice or too late. Nothing happens in a paused
            # execution, so the children are checked again when it is resumed.
            is_awaited = step.waiting is not None and step.waiting.attempt == attempt
            if is_awaited and self._scheduler.state.status == "running":
                node = self._scheduler.plan.step(step_id).node
                draw = random.random()  # noqa: S311 - jitter, no secret
                output = outcome.output if isinstance(outcome, Succeeded) else msgspec.UNSET
                end = end_event(step, outcome, node, self._services.now(), draw)
                facts.append(self._scheduler.record(end, output))
                if isinstance(outcome, Succeeded) and outcome.ref is not None:
                    # Kept in memory, so that it need not be fetched.
                    step.output = outcome.output
        return facts

    # Commits of others

    def _record_lost_attempts(self, last_writer: str) -> list[Event]:
        """Record that attempts of an earlier drive are lost; they are retried at once."""
        now = self._services.now()
        return [
            self._scheduler.record(self._lost(step, last_writer, now))
            for step in self._scheduler.attended
        ]

    def _lost(self, step: StepState, last_writer: str, now: float) -> Event:
        node = self._scheduler.plan.step(step.node_id).node
        if last_writer == self._services.worker_id:
            # This worker gave the execution up itself, because NATS was away for long.
            return lost(step, node, "handover", "its worker had lost NATS", now)
        if step.crashes + 1 >= self._services.max_crashes:
            error = f"its worker was lost {step.crashes + 1} times while it ran"
            return failed(step, error, format_timestamp(now))
        return lost(step, node, "crash", "its worker was lost", now)

    async def _rebase(self, facts: list[Event], lost: WrongLastSequenceError) -> list[Event]:
        """Record ``facts``, none of which is stored, on the state as the log has it now.

        Raises:
            DisplacedError: another worker has appended, or the log is gone.
            LogWentBackError: NATS has lost commits.
        """
        facts = await self._local.rebase(facts, lost)
        self._scheduler = self._attempts.scheduler = self._local.scheduler
        # No attempt was launched for the stored part of such a turn.
        self._unlaunched = self._attempts.unlaunched
        return facts

    # Live commits

    async def _subscribe(self) -> None:
        """Subscribe to commits of other writers."""
        with contextlib.suppress(nats.errors.Error):  # the next silence subscribes
            self._subscription = await self._services.subscribe_live(
                self._tenant, self._execution, self._on_commit
            )
        await self._index_status()
        # Commits before the subscription are found by one read.
        self.request_read()

    async def _index_status(self) -> None:
        # The index is derived: a list that shows the run as queued for longer does no harm.
        with contextlib.suppress(UnavailableError, JetStreamError):
            await self._services.stores.runs.put(
                self._tenant,
                self._scheduler.state,
                self._estimates.nodes,
                self._estimates.remaining_ms(self._services.now()),
            )

    async def _on_commit(self, message: Msg) -> None:
        if (message.headers or {}).get(WRITER) != self._services.worker_id:
            self.request_read()
