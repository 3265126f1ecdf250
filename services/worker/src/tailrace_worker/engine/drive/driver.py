"""The orchestrator: drives one execution from where its log stands until it need not be driven.

One turn of its loop: take what has happened (attempts that ended, reports, timers that are due),
let the scheduler decide what follows, append all of it as one commit, and only then start what
the commit says is started. So nothing has an effect before the log says so, and what a step
completed and what that makes start are one message.

A turn that loses its fence reads what was written instead. If another worker wrote, this one is
displaced: it cancels what it runs and changes nothing more. If an actor wrote, of a step that the
turn does not touch, the turn is appended after that as it is. If the API wrote, the facts that were
not stored yet are recorded on the newer state, and the scheduler decides again.

A drive that has left its execution to wait may be resumed: then it goes on as if it had not left.
"""

import contextlib
import functools
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

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
from tailrace_shared.execution.events import Event, StepStarted, referenced_output_bytes
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.nats.fenced_append import WRITER
from tailrace_shared.stores.execution_log import Commit, History
from tailrace_worker.engine.decide.outcomes import LONGEST_IDLE, Succeeded, end_event, failed, lost
from tailrace_worker.engine.decide.reorder import commute
from tailrace_worker.engine.decide.scheduler import MOST_DECISIONS, Scheduler
from tailrace_worker.engine.drive.drive_result import DriveResult, End
from tailrace_worker.engine.drive.lifecycle import Lifecycle
from tailrace_worker.engine.drive.local_attempts import LocalAttempts
from tailrace_worker.engine.drive.log_reader import DisplacedError, LogReader
from tailrace_worker.engine.drive.log_writer import LogWriter
from tailrace_worker.engine.drive.wait_effects import WaitEffects
from tailrace_worker.engine.services.engine_services import EngineServices
from tailrace_worker.engine.services.progress_estimates import ProgressEstimates
from tailrace_worker.engine.tasks.execution_cache import memory_of
from tailrace_worker.engine.tasks.retry import patiently
from tailrace_worker.engine.tasks.wakeup import WakeUp

_TURN_EVENTS: Final = 64
_TURN_SECONDS: Final = 0.005
# Listening costs more than most steps; a request also has a job, which finds this drive.
_LISTEN_AFTER: Final = 2.0

_log = structlog.get_logger(__name__)

T = TypeVar("T")
_Decide = Callable[[list[Event]], tuple[list[Event], bool]]


class Drive:
    """Drives one execution. Everything happens on the engine's event loop.

    Args:
        services: what all drives of this worker share.
        tenant: whose execution.
        execution: which execution.

    Attributes:
        is_resumable: whether it has left the execution to wait, and may be resumed.
    """

    def __init__(self, services: EngineServices, tenant: str, execution: str) -> None:
        self._services = services
        self._tenant = tenant
        self._execution = execution
        self._writer = LogWriter(
            services.jetstream, services.subjects, tenant, execution, services.worker_id
        )
        self._reader = LogReader(
            services.stores.log, self._writer, tenant, execution, services.worker_id
        )
        self._alarm = WakeUp(services.loop, _LISTEN_AFTER)
        self._scheduler: Scheduler
        self._outlook: ProgressEstimates
        # Not a method of the drive's own: in a cycle all that it has read would outlive it.
        self._attempts = LocalAttempts(services, tenant, execution, self._alarm.ring)
        self._wait_effects = WaitEffects(services, tenant, execution, self._alarm.ring)
        self._lifecycle = Lifecycle(services, tenant, self._writer)
        # Steps that run by the log, and that nobody here attends to yet.
        self._unattended: list[str] = []
        self._log_moved = False
        self._is_draining = False
        self._grace_is_over = False
        self._subscription: Subscription | None = None
        self._last_writer = ""
        self._bytes_read = 0
        # From where on its log was not followed, while it had left.
        self._left_at = 0
        self.is_resumable = False

    # Called from outside, on the same loop

    @property
    def read_requested(self) -> bool:
        """Whether the log is to be read, and has not been read yet."""
        return self._log_moved

    @property
    def memory(self) -> int:
        """About how many bytes it takes, once it drives."""
        log_bytes = self._bytes_read + self._writer.bytes_written
        return memory_of(log_bytes, len(self._scheduler.plan.definition.nodes))

    def request_read(self) -> None:
        """Read the log in the next turn: a request was appended, or a child run has ended."""
        self._log_moved = True
        self._alarm.ring()

    def drain(self, grace: float) -> None:
        """Start nothing more, and hand the execution over once what runs has ended."""
        self._is_draining = True
        self._services.loop.call_later(grace, self._end_grace)
        self._alarm.ring()

    def _end_grace(self) -> None:
        self._grace_is_over = True
        self._alarm.ring()

    # The loop

    async def resume(self) -> History | None:
        """Take in what has been appended since it left; None if the log must be read anew.

        Raises:
            UnavailableError: NATS did not answer for long.
        """
        self._alarm.reset()
        self._log_moved, self._subscription = False, None
        try:
            commits = await self._patiently(self._reader.new_commits)
        except DisplacedError:
            return None
        if commits:
            self._take_in(commits)
            await self._fetch_outputs()
        for commit in commits:
            self._last_writer = commit.writer or self._last_writer
        state = self._scheduler.state
        if state.is_terminal:
            return None
        return History(state, self._writer.last_sequence, self._last_writer)

    async def run(self, history: History) -> DriveResult:
        """Drive the execution on from ``history``, which is its own if it was resumed.

        Raises:
            UnavailableError: NATS did not answer for long; the job should be tried again.
        """
        self._writer.last_sequence = history.last_sequence
        try:
            return await self._run(history)
        except DisplacedError:
            _log.info("displaced", tenant=self._tenant, execution=self._execution)
            return DriveResult(End.DISPLACED, self._writer.last_sequence)
        finally:
            self._attempts.abandon()
            self._wait_effects.close()
            self._alarm.stop()
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
            return await self._go_on()
        self._last_writer, self._bytes_read = history.last_writer, history.size
        state = history.state
        try:
            plan = await self._services.plan(self._tenant, state.workflow_id, state.version)
        except WorkflowNotFoundError as error:
            return await self._lifecycle.fail(state, str(error))
        self._lifecycle.plan = plan
        if (result := await self._lifecycle.begin(state, plan)) is not None:
            return result
        self._adopt(Scheduler(plan, state))
        if state.is_terminal:
            return await self._conclude()
        self._outlook = await self._services.outlook(self._tenant, plan, state.version)
        await self._fetch_outputs()
        if plan.awaits:
            await self._wait_effects.recall()
        self._wait_effects.follow(self._scheduler)
        return await self._drive(self._take_over(history.last_writer))

    async def _go_on(self) -> DriveResult:
        self.is_resumable = False
        have_others_driven = self._last_writer != self._services.worker_id
        self._wait_effects.reopen(anew=have_others_driven)
        if have_others_driven and self._scheduler.plan.awaits:
            await self._wait_effects.recall()
        self._wait_effects.follow(self._scheduler, self._left_at)
        self._wait_effects.look_at_children()
        return await self._drive(self._take_over(self._last_writer))

    async def _conclude(self) -> DriveResult:
        self._wait_effects.follow(self._scheduler)
        await self._wait_effects.conclude(awaits=self._scheduler.plan.awaits)
        return await self._lifecycle.finished(self._scheduler.state)

    def _adopt(self, scheduler: Scheduler) -> None:
        self._scheduler = self._attempts.scheduler = scheduler

    async def _fetch_outputs(self) -> None:
        """Have at hand what is kept elsewhere and some expression names."""
        scheduler = self._scheduler
        await self._patiently(
            lambda: self._services.stores.outputs.fetch(scheduler.state, scheduler.plan.referenced)
        )
        if scheduler.sensitivity is not None:
            scheduler.sensitivity.refresh()

    async def _drive(self, facts: list[Event]) -> DriveResult:
        while True:
            more = await self._turn(facts, self._decide)
            state = self._scheduler.state
            if state.cancel and not state.is_terminal:
                facts = await self._attempts.interrupt(self._services.cancel_grace)
                await self._wait_effects.cancel_children()
                await self._turn(facts, self._cancel)
            elif not self._is_draining:
                self._launch_unattended()
            if self._scheduler.state.is_terminal:
                self._services.statistics.note(self._tenant, self._scheduler.state)
                return await self._conclude()
            if not more and (result := await self._rest()) is not None:
                return result
            # Before the log is read: who asks for a look meanwhile must not be forgotten.
            self._alarm.reset()
            if self._log_moved:
                await self._read_on()
                self._wait_effects.look_at_children()
            facts = self._facts()

    async def _turn(self, facts: list[Event], decide: _Decide) -> bool:
        """Commit facts and what follows from them; returns whether there is more to decide."""
        while True:
            batch, more = decide(facts)
            self._outlook.tell(batch, self._scheduler.state, self._services.now())
            since = self._writer.last_sequence + 1
            stored, lost = await self._append(batch)
            if lost is not None:
                # Of a turn too large for one commit a part may be stored, its facts first.
                facts = await self._start_over(facts[stored:], lost)
                continue
            self._unattended += [
                event.data.node_id for event in batch if isinstance(event, StepStarted)
            ]
            self._wait_effects.follow(self._scheduler, since)
            return more

    async def _append(self, batch: list[Event]) -> tuple[int, WrongLastSequenceError | None]:
        """Append a turn; returns how many of its events are stored, and what the others met."""
        stored = 0
        while True:
            try:
                await self._writer.append(batch[stored:], self._scheduler.state)
            except WrongLastSequenceError as lost:
                stored += self._writer.stored
                if not await self._give_way(batch[stored:], lost):
                    return stored, lost
            else:
                self._bytes_read += referenced_output_bytes(batch)
                return len(batch), None

    async def _give_way(self, ours: list[Event], lost: WrongLastSequenceError) -> bool:
        """Take in what actors have appended before ``ours``; False if those must be made anew."""
        if (lost.last or 0) <= self._writer.last_sequence:
            return False
        commits = await self._patiently(self._reader.new_commits)
        theirs = [event for commit in commits for event in commit.events()]
        if not theirs or any(c.writer for c in commits) or not commute(theirs, ours):
            return False
        self._take_in(commits)
        await self._fetch_outputs()
        # There may be more to decide.
        self._alarm.ring()
        return True

    def _decide(self, facts: list[Event]) -> tuple[list[Event], bool]:
        """Return ``facts`` with all that follows from them, as far as one commit should go."""
        batch = list(facts)
        if self._is_draining:
            return batch, False
        until = time.monotonic() + _TURN_SECONDS
        while decisions := self._scheduler.decide(self._services.now()):
            ends = [
                end
                for event in decisions
                if isinstance(event, StepStarted) and self._attempts.is_instant(event.data.node_id)
                for end in self._attempts.run_instant(event.data.node_id)
            ]
            batch += decisions
            batch += ends
            if not ends and len(decisions) < MOST_DECISIONS:
                break
            if len(batch) >= _TURN_EVENTS or time.monotonic() > until:
                return batch, True
        return batch, False

    def _cancel(self, facts: list[Event]) -> tuple[list[Event], bool]:
        return [*facts, *self._scheduler.cancelled(self._services.now())], False

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

    async def _rest(self) -> DriveResult | None:
        """Wait until something happens; a result if the drive should end instead."""
        if self._is_draining:
            if self._attempts and not self._grace_is_over:
                await self._wait(None)
                return None
            await self._turn(await self._attempts.interrupt(0), self._hand_over)
            return DriveResult(End.HANDED_OVER, self._writer.last_sequence)
        due = self._scheduler.next_due
        delay = None if due is None else max(0.0, due - self._services.now())
        is_idle = not (self._attempts or self._wait_effects.is_busy or self._alarm.has_rung)
        if is_idle and (delay is None or delay > LONGEST_IDLE):
            return await self._park(due)
        await self._wait(delay)
        return None

    async def _park(self, due: float | None) -> DriveResult | None:
        """Leave the execution to a timer or a request; unless one comes meanwhile."""
        await self._put_in_index()
        await self._patiently(functools.partial(self._expect, due))
        if self._alarm.has_rung:
            return None
        # One that waits for a signal is paused, and may be so for days.
        self.is_resumable = self._scheduler.state.status == "running"
        self._left_at = self._writer.last_sequence + 1
        if self._writer.bytes_written:
            self._last_writer = self._services.worker_id
        return DriveResult(End.WAITING, self._writer.last_sequence, due)

    async def _expect(self, due: float | None) -> None:
        """Say when somebody must have driven this execution on, for those who look after it."""
        if due is None:
            await self._services.stores.due.remove(self._tenant, self._execution)
        else:
            await self._services.stores.due.put(self._tenant, self._execution, due)

    async def _wait(self, delay: float | None) -> None:
        if await self._alarm.wait(delay, minds_silence=self._subscription is None):
            await self._listen()

    # Steps

    def _launch_unattended(self) -> None:
        steps, maps = self._scheduler.state.steps, self._scheduler.plan.maps
        # An instant step is over by now, and a map runs by its items.
        self._attempts.launch(
            step_id
            for step_id in self._unattended
            if steps[step_id].runs_locally and step_id not in maps
        )
        self._unattended.clear()

    def _facts(self) -> list[Event]:
        """Return what has happened since the last turn, recorded already."""
        facts = self._attempts.take()
        for (step_id, attempt), outcome in self._wait_effects.take_news():
            step = self._scheduler.state.steps[step_id]
            # Told twice or too late; and in an execution that is paused nothing happens, so the
            # children are looked at again when it is resumed.
            is_awaited = step.waiting is not None and step.waiting.attempt == attempt
            if is_awaited and self._scheduler.state.status == "running":
                node = self._scheduler.plan.step(step_id).node
                draw = random.random()  # noqa: S311 - jitter, no secret
                output = outcome.output if isinstance(outcome, Succeeded) else msgspec.UNSET
                end = end_event(step, outcome, node, self._services.now(), draw)
                facts.append(self._scheduler.record(end, output))
                if isinstance(outcome, Succeeded) and outcome.ref is not None:
                    # It is at hand: nobody need fetch it.
                    step.output = outcome.output
        return facts

    # Taking over, being displaced, leaving

    def _take_over(self, last_writer: str) -> list[Event]:
        """Record that attempts of an earlier drive are lost; they are tried again at once."""
        now = self._services.now()
        return [
            self._scheduler.record(self._lost(step, last_writer, now))
            for step in self._scheduler.attended
        ]

    def _lost(self, step: StepState, last_writer: str, now: float) -> Event:
        node = self._scheduler.plan.step(step.node_id).node
        if last_writer == self._services.worker_id:
            # This very worker gave the execution up, because NATS was away for long.
            return lost(step, node, "handover", "its worker had lost NATS", now)
        if step.crashes + 1 >= self._services.max_crashes:
            error = f"its worker was lost {step.crashes + 1} times while it ran"
            return failed(step, error, format_timestamp(now))
        return lost(step, node, "crash", "its worker was lost", now)

    async def _read_on(self) -> None:
        """Take in what others have appended; everything of ours is stored.

        Raises:
            DisplacedError: another worker has appended, or the log is gone.
        """
        self._log_moved = False
        commits = await self._patiently(self._reader.new_commits)
        self._reader.check(commits)
        if commits:
            self._take_in(commits)
            await self._fetch_outputs()

    def _take_in(self, commits: list[Commit]) -> None:
        for commit in commits:
            events = commit.events()
            for event in events:
                self._scheduler.record(event)
            self._writer.last_sequence = commit.sequence
            self._bytes_read += len(commit.payload) + referenced_output_bytes(events)

    async def _start_over(self, facts: list[Event], lost: WrongLastSequenceError) -> list[Event]:
        """Start from the log's own state, and our ``facts``, of which none is stored.

        Returns the facts, recorded on the new state.

        Raises:
            DisplacedError: another worker has appended, or the log is gone.
        """
        # The fence has told how far the log goes; a replica that lags must come that far.
        known = max(self._writer.last_sequence, lost.last or 0)
        commits, history = await self._patiently(functools.partial(self._reader.reload, known))
        self._reader.check(commits)
        self._writer.last_sequence, self._bytes_read = history.last_sequence, history.size
        self._adopt(Scheduler(self._scheduler.plan, history.state))
        facts = [self._scheduler.record(fact) for fact in facts]
        await self._fetch_outputs()
        # What such a part of a turn has started nobody has launched.
        self._unattended = self._attempts.unattended
        return facts

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await patiently(ask, lambda: self._is_draining)

    # Requests

    async def _listen(self) -> None:
        """Hear of other writers' commits from now on."""
        self._subscription = await self._services.subscribe_live(
            self._tenant, self._execution, self._heard
        )
        await self._put_in_index()
        # What was appended before the subscription stood is found by looking once.
        self.request_read()

    async def _put_in_index(self) -> None:
        # The index is derived: a list that shows a run as queued for longer is no harm.
        with contextlib.suppress(UnavailableError, JetStreamError):
            await self._services.stores.runs.put(self._tenant, self._scheduler.state)

    async def _heard(self, message: Msg) -> None:
        if (message.headers or {}).get(WRITER) != self._services.worker_id:
            self.request_read()
