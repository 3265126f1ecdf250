"""The orchestrator: drives one execution from where its log stands until it need not be driven.

One turn of its loop: take what has happened (attempts that ended, reports, timers that are due),
let the scheduler decide what follows, append all of it as one commit, and only then start what
the commit says is started. So nothing has an effect before the log says so, and what a step
completed and what that makes start are one message.

A turn that loses its fence reads what was written instead. If another worker wrote, this one is
displaced: it cancels what it runs and changes nothing more. If the API wrote, the facts that were
not stored yet are recorded on the newer state, and the scheduler decides again.
"""

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tailrace_shared.appends import WRITER
from tailrace_shared.errors import (
    ExecutionNotFoundError,
    JetStreamError,
    TailraceError,
    UnavailableError,
    WorkflowNotFoundError,
    WrongLastSequenceError,
)
from tailrace_shared.execution.events import (
    Event,
    ExecutionFailed,
    Failed,
    StepStarted,
    StepWait,
    StepWaiting,
    format_timestamp,
)
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution_log import Commit, History
from tailrace_worker.engine.attempt import Attempt
from tailrace_worker.engine.environment import Environment
from tailrace_worker.engine.log_writer import LogWriter
from tailrace_worker.engine.retry_policy import retry_delay
from tailrace_worker.engine.runner import Erred, Outcome, Succeeded, Unable
from tailrace_worker.engine.scheduler import Scheduler, completed, failed, retrying
from tailrace_worker.nodes.node import Wait

LONGEST_IDLE: Final = 2.0
"""Timers that are due within this many seconds are waited for; later ones are handed to NATS."""

_TURN_EVENTS: Final = 64
_TURN_SECONDS: Final = 0.005
_SHORT: Final = 0.05
_CANCEL_GRACE: Final = 1.0
# A step that no worker so far could run is given up after some ten minutes.
_MOST_WORKERS_ASKED: Final = 30
_LONGEST_SEARCH: Final = 30.0
_PATIENCE: Final = 300.0
_PAUSE: Final = 0.5

_log = structlog.get_logger(__name__)

T = TypeVar("T")
_Decide = Callable[[list[Event]], tuple[list[Event], bool]]


class DisplacedError(TailraceError):
    """Another worker drives the execution now."""


class End(Enum):
    """Why a drive ended."""

    FINISHED = "the execution is terminal"
    WAITING = "nothing to do before a timer"
    HANDED_OVER = "this worker is stopping"
    DISPLACED = "another worker drives the execution"
    GONE = "there is no such execution, or not all of its log"


@dataclass(frozen=True, slots=True)
class DriveResult:
    """How a drive ended.

    Attributes:
        end: why.
        last_sequence: the last sequence of the log that the drive has seen.
        due: for a waiting execution, when it must be driven on (seconds since the epoch).
    """

    end: End
    last_sequence: int
    due: float | None = None


class Drive:
    """Drives one execution. Everything happens on the engine's event loop.

    Args:
        environment: what all drives of this worker share.
        tenant: whose execution.
        execution: which execution.
    """

    def __init__(self, environment: Environment, tenant: str, execution: str) -> None:
        self._env = environment
        self._tenant = tenant
        self._execution = execution
        self._writer = LogWriter(
            environment.jetstream, environment.subjects, tenant, execution, environment.worker_id
        )
        self._scheduler: Scheduler
        self._attempts: dict[str, Attempt] = {}
        self._outcomes: list[tuple[Attempt, Outcome]] = []
        # Steps that run by the log, and that nobody here attends to yet.
        self._unattended: list[str] = []
        self._woken = asyncio.Event()
        self._log_moved = False
        self._is_draining = False
        self._grace_is_over = False
        self._subscription: Subscription | None = None

    # Called from outside, on the same loop

    def look_again(self) -> None:
        """Have the log read: somebody may have appended a request."""
        self._log_moved = True
        self._woken.set()

    def drain(self, grace: float) -> None:
        """Start nothing more, and hand the execution over once what runs has ended."""
        self._is_draining = True
        self._env.loop.call_later(grace, self._end_grace)
        self._woken.set()

    def _end_grace(self) -> None:
        self._grace_is_over = True
        self._woken.set()

    # The loop

    async def run(self, history: History) -> DriveResult:
        """Drive the execution on from ``history``.

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
            for attempt in self._attempts.values():
                attempt.cancel()
            self._abandon_attempts()
            if self._subscription is not None:
                with contextlib.suppress(nats.errors.Error):
                    await self._subscription.unsubscribe()

    async def _run(self, history: History) -> DriveResult:
        state = history.state
        if not state.is_terminal:
            try:
                plan = await self._env.plan(self._tenant, state.workflow_id, state.version)
            except WorkflowNotFoundError as error:
                await self._fail(state, str(error))
            else:
                self._scheduler = Scheduler(plan, state)
                return await self._drive(self._take_over(history.last_writer))
        await self._env.index.put(self._tenant, state)
        return DriveResult(End.FINISHED, self._writer.last_sequence)

    async def _drive(self, facts: list[Event]) -> DriveResult:
        while True:
            if self._log_moved:
                facts = await self._catch_up(facts)
            more = await self._turn(facts, self._decide)
            if self._scheduler.state.cancel and not self._scheduler.state.is_terminal:
                await self._turn(await self._interrupt(), self._cancel)
            elif not self._is_draining:
                self._launch_unattended()
            if self._scheduler.state.is_terminal:
                await self._env.index.put(self._tenant, self._scheduler.state)
                return DriveResult(End.FINISHED, self._writer.last_sequence)
            if not more and (result := await self._rest()) is not None:
                return result
            facts = self._facts()

    async def _turn(self, facts: list[Event], decide: _Decide) -> bool:
        """Commit facts and what follows from them; returns whether there is more to decide."""
        while True:
            batch, more = decide(facts)
            try:
                await self._writer.append(batch)
            except WrongLastSequenceError as error:
                # Of a turn too large for one commit a part may be stored, its facts first.
                facts = await self._catch_up(facts[self._writer.stored :], lost=error)
                continue
            self._unattended += [
                event.data.node_id for event in batch if isinstance(event, StepStarted)
            ]
            return more

    def _decide(self, facts: list[Event]) -> tuple[list[Event], bool]:
        """Return ``facts`` with all that follows from them, as far as one commit should go."""
        batch = list(facts)
        if self._is_draining:
            return batch, False
        until = time.monotonic() + _TURN_SECONDS
        while decisions := self._scheduler.decide(time.time()):
            batch += decisions
            for event in decisions:
                if isinstance(event, StepStarted) and self._is_instant(event.data.node_id):
                    batch += self._run_instant(event.data.node_id)
            if len(batch) >= _TURN_EVENTS or time.monotonic() > until:
                return batch, True
        return batch, False

    def _cancel(self, facts: list[Event]) -> tuple[list[Event], bool]:
        return [*facts, self._scheduler.cancelled(time.time())], False

    def _hand_over(self, facts: list[Event]) -> tuple[list[Event], bool]:
        now = time.time()
        stamp = format_timestamp(now)
        interrupted = [
            self._scheduler.record(retrying(step, "handover", "its worker is stopping", now, stamp))
            for step in self._scheduler.running
        ]
        return [*facts, *interrupted], False

    async def _rest(self) -> DriveResult | None:
        """Wait until something happens; a result if the drive should end instead."""
        if self._is_draining:
            if self._attempts and not self._grace_is_over:
                await self._wait(None)
                return None
            await self._turn(await self._interrupt(), self._hand_over)
            return DriveResult(End.HANDED_OVER, self._writer.last_sequence)
        due = self._scheduler.next_due
        delay = None if due is None else max(0.0, due - time.time())
        is_idle = not self._attempts and not self._woken.is_set()
        if is_idle and (delay is None or delay > LONGEST_IDLE):
            await self._put_in_index()
            return DriveResult(End.WAITING, self._writer.last_sequence, due)
        await self._wait(delay)
        return None

    async def _wait(self, delay: float | None) -> None:
        if self._subscription is None:
            # Most steps are over before it is worth listening for requests.
            if await self._woken_within(_SHORT if delay is None else min(delay, _SHORT)):
                return
            await self._listen()
            return
        await self._woken_within(delay)

    async def _woken_within(self, delay: float | None) -> bool:
        try:
            async with asyncio.timeout(delay):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    # Steps

    def _is_instant(self, node: str) -> bool:
        return self._env.runner.is_instant(self._scheduler.plan.nodes[node])

    def _run_instant(self, node: str) -> list[Event]:
        attempt = self._attempt(node)
        planned = self._scheduler.plan.nodes[node]
        outcome = self._env.runner.run_instant(planned, self._scheduler.state, attempt)
        return self._ended(attempt, outcome)

    def _launch_unattended(self) -> None:
        for node in self._unattended:
            # An instant step is over by now.
            if self._scheduler.state.steps[node].status == "running" and node not in self._attempts:
                attempt = self._attempts[node] = self._attempt(node)
                attempt.task = self._env.loop.create_task(self._attend(attempt))
        self._unattended.clear()

    def _attempt(self, node: str) -> Attempt:
        step = self._scheduler.state.steps[node]
        return Attempt(self._tenant, self._execution, step, self._env.loop, self._woken.set)

    async def _attend(self, attempt: Attempt) -> None:
        planned = self._scheduler.plan.nodes[attempt.node_id]
        try:
            outcome = await self._env.runner.run(planned, self._scheduler.state, attempt)
        # An attempt without an outcome would leave the execution waiting for ever.
        except Exception as error:  # noqa: BLE001
            _log.exception("attempt broke", tenant=self._tenant, execution=self._execution)
            outcome = Erred(f"internal error: {type(error).__name__}", retryable=False)
        # An attempt that was abandoned meanwhile has no say any more.
        if self._attempts.get(attempt.node_id) is attempt:
            self._outcomes.append((attempt, outcome))
            self._woken.set()

    def _facts(self) -> list[Event]:
        """Return what has happened since the last turn, recorded already."""
        self._woken.clear()
        facts: list[Event] = []
        outcomes, self._outcomes = self._outcomes, []
        for attempt, outcome in outcomes:
            del self._attempts[attempt.node_id]
            facts += self._ended(attempt, outcome)
        for attempt in self._attempts.values():
            if attempt.is_due:
                facts += [self._scheduler.record(report) for report in attempt.take_reports()]
        return facts

    def _ended(self, attempt: Attempt, outcome: Outcome) -> list[Event]:
        attempt.close()
        reports = [self._scheduler.record(report) for report in attempt.take_reports()]
        now = time.time()
        stamp = format_timestamp(now)
        step = self._scheduler.state.steps[attempt.node_id]
        return [*reports, self._scheduler.record(self._end_event(step, outcome, now, stamp))]

    def _end_event(self, step: StepState, outcome: Outcome, now: float, stamp: str) -> Event:
        match outcome:
            case Succeeded(output):
                return completed(step, output, stamp)
            case Wait(until):
                wait = StepWait(step.node_id, step.node_type, "waiting", format_timestamp(until))
                return StepWaiting(wait, stamp)
            case Unable(message):
                if step.attempt >= _MOST_WORKERS_ASKED:
                    return failed(step, message, stamp)
                # Longer than this worker waits for itself: the timer's job may go to another.
                search = min(LONGEST_IDLE + step.attempt, _LONGEST_SEARCH)
                return retrying(step, "handover", message, now + search, stamp)
            case Erred(message, retryable):
                policy = self._scheduler.plan.nodes[step.node_id].node.retry
                draw = random.random()  # noqa: S311 - jitter, no secret
                delay = retry_delay(policy, step.failures + 1, draw) if retryable else None
                if delay is None:
                    return failed(step, message, stamp)
                return retrying(step, "error", message, now + delay, stamp)

    # Taking over, being displaced, leaving

    def _take_over(self, last_writer: str) -> list[Event]:
        """Record that attempts of an earlier drive are lost; they are tried again at once."""
        now = time.time()
        stamp = format_timestamp(now)
        events: list[Event] = []
        for step in self._scheduler.running:
            if last_writer == self._env.worker_id:
                # This very worker gave the execution up, because NATS was away for long.
                event = retrying(step, "handover", "its worker had lost NATS", now, stamp)
            elif step.crashes + 1 >= self._env.max_crashes:
                error = f"its worker was lost {step.crashes + 1} times while it ran"
                event = failed(step, error, stamp)
            else:
                event = retrying(step, "crash", "its worker was lost", now, stamp)
            events.append(self._scheduler.record(event))
        return events

    async def _catch_up(
        self, facts: list[Event], lost: WrongLastSequenceError | None = None
    ) -> list[Event]:
        """Read what others have appended; start from the log's own state, and our ``facts``.

        Returns the facts, recorded on the new state.

        Raises:
            DisplacedError: another worker has appended, or the log is gone.
        """
        self._log_moved = False
        # The fence has told how far the log goes; a replica that lags must come that far.
        known = max(self._writer.last_sequence, (lost and lost.last) or 0)
        commits, history = await self._patiently(functools.partial(self._read_on, known))
        for commit in commits:
            if commit.writer not in {"", self._env.worker_id}:
                raise DisplacedError(f"{commit.writer} has appended at {commit.sequence}")
        if lost is None and not commits:
            return facts
        self._writer.last_sequence = history.last_sequence
        self._scheduler = Scheduler(self._scheduler.plan, history.state)
        facts = [self._scheduler.record(fact) for fact in facts]
        # What such a part of a turn has started nobody has launched.
        ended = {attempt.node_id for attempt, _outcome in self._outcomes}
        self._unattended = [
            step.node_id for step in self._scheduler.running if step.node_id not in ended
        ]
        return facts

    async def _read_on(self, known: int) -> tuple[list[Commit], History]:
        log, seen = self._env.log, self._writer.last_sequence
        try:
            history = await log.load(self._tenant, self._execution, at_least=known)
        except ExecutionNotFoundError as error:
            raise DisplacedError("the log is gone: expired or purged") from error
        # Read after the history, so that no commit is in it whose writer goes unseen.
        commits = [c async for c in log.read(self._tenant, self._execution, seen + 1)]
        if (commits[-1].sequence if commits else seen) < history.last_sequence:
            raise UnavailableError("a replica lags behind what another has answered")
        return commits, history

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read, and go on trying while NATS is away: what runs here is not given up for that."""
        deadline = self._env.loop.time() + _PATIENCE
        while True:
            try:
                return await read()
            except UnavailableError:
                if self._is_draining or self._env.loop.time() > deadline:
                    raise
                await asyncio.sleep(_PAUSE)

    async def _interrupt(self) -> list[Event]:
        """Interrupt what runs; returns the facts of attempts that ended all the same."""
        tasks = [attempt.task for attempt in self._attempts.values() if attempt.task]
        for attempt in self._attempts.values():
            attempt.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_GRACE)
        facts = self._facts()
        self._abandon_attempts()
        return facts

    def _abandon_attempts(self) -> None:
        for attempt in self._attempts.values():
            attempt.close()
        self._attempts.clear()
        self._outcomes.clear()
        self._unattended.clear()

    async def _fail(self, state: ExecutionState, message: str) -> None:
        stamp = format_timestamp(time.time())
        event = ExecutionFailed(Failed(self._execution, "failed", 0, message), stamp)
        state.apply(event)
        await self._writer.append([event])

    # Requests

    async def _listen(self) -> None:
        """Hear of other writers' commits from now on."""
        self._subscription = await self._env.subscribe_live(
            self._tenant, self._execution, self._heard
        )
        await self._put_in_index()
        # What was appended before the subscription stood is found by looking once.
        self.look_again()

    async def _put_in_index(self) -> None:
        # The index is derived: a list that shows a run as queued for longer is no harm.
        with contextlib.suppress(UnavailableError, JetStreamError):
            await self._env.index.put(self._tenant, self._scheduler.state)

    async def _heard(self, message: Msg) -> None:
        if (message.headers or {}).get(WRITER) != self._env.worker_id:
            self.look_again()
