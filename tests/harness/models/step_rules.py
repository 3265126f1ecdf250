"""Invariants of the starts, attempts, writers and signals of steps in one log.

A writer may write again after another one, when it receives the job a second time. It must never
end or report on an attempt that it began before it was displaced: the rule ``Writers`` checks that.
"""

from collections.abc import Iterator
from typing import Any

from harness.models.log_reading import TOLERANCE_S, Reading, Rule, name_of, on_time, waits_for
from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import evaluate
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Event,
    StepCompleted,
    StepEvent,
    StepExpanded,
    StepFailed,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.timestamps import parse_timestamp
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_worker.engine.decide.retry_policy import retry_delay


class Starts(Rule):
    """A node runs, or is skipped, only as its needs and its condition require."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check how each node leaves `pending`."""
        if not isinstance(event, StepEvent):
            return
        node_id, index = split_item_id(event.data.node_id)
        if node_id not in at.definition.all_nodes:
            yield f"{node_id} is not a node of the definition"
        elif index is None and at.step(node_id).status == "pending":
            yield from self._leaves_pending(event, node_id, at)

    def _leaves_pending(self, event: StepEvent, node_id: str, at: Reading) -> Iterator[str]:
        if isinstance(event, StepCompleted):
            # A rerun of a rerun may keep a completion of the first execution.
            if event.data.kept_from is None or at.state.rerun_of is None:
                yield f"{node_id} has succeeded without having run"
            return
        if at.state.status != "running":
            yield f"{node_id} is decided on in an execution that is {at.state.status}"
        join = at.join(node_id)
        is_unneeded = isinstance(event, StepSkipped) and event.data.reason == "needs"
        if is_unneeded and join != "never":
            yield f"{node_id} is skipped because of its needs, which are {join}"
        elif not is_unneeded and join != "ready":
            yield f"{node_id} is decided on although its needs are {join}"
        elif not is_unneeded:
            yield from self._is_wanted(event, node_id, at)

    def _is_wanted(self, event: StepEvent, node_id: str, at: Reading) -> Iterator[str]:
        condition = at.definition.all_nodes[node_id].when
        wanted: Any = True
        if condition is not None:
            try:
                wanted = evaluate(compile_expression(condition), at.state)
            except ExpressionError as error:
                if "has not been fetched" in str(error):
                    return
                wanted = None
        if isinstance(event, StepSkipped) and wanted is not False:
            yield f"{node_id} is skipped although its condition is {wanted}"
        if isinstance(event, StepStarted | StepWaiting) and wanted is not True:
            yield f"{node_id} runs although its condition is {wanted}"


class Attempts(Rule):
    """Attempts are numbered 1 to n, follow the retry policy, and no timer is early."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check each start and each end of an attempt."""
        match event:
            case StepStarted():
                step = at.step(event.data.node_id)
                if event.data.attempt != step.attempt + 1:
                    yield (
                        f"{event.data.node_id} begins attempt {event.data.attempt} "
                        f"after attempt {step.attempt}"
                    )
                if step.status == "retrying":
                    yield from on_time(event, event.data.node_id, step.due)
            case StepCompleted() | StepFailed() | StepRetrying():
                step = at.step(event.data.node_id)
                is_kept = isinstance(event, StepCompleted) and event.data.kept_from is not None
                if event.data.attempt != step.attempt and not is_kept:
                    yield (
                        f"{event.data.node_id} ends attempt {event.data.attempt} "
                        f"while attempt {step.attempt} is the newest"
                    )
                if isinstance(event, StepCompleted) and waits_for(step, "time"):
                    yield from on_time(event, event.data.node_id, step.due)
                if isinstance(event, StepRetrying):
                    yield from self._again(event, step, at)

    def _again(self, event: StepRetrying, step: StepState, at: Reading) -> Iterator[str]:
        node_id, cause = event.data.node_id, event.data.cause
        node = at.node(node_id)
        if cause == "crash" and node.on_crash == "fail":
            yield f"{node_id} is tried again after a crash, which its definition forbids"
        if cause != "error":
            return
        shortest = retry_delay(node.retry, step.failures + 1, 0.0)
        longest = retry_delay(node.retry, step.failures + 1, 1.0)
        if shortest is None or longest is None:
            yield f"{node_id} is tried again after {step.failures + 1} failures"
            return
        delay = parse_timestamp(event.data.retry_at) - parse_timestamp(event.timestamp)
        if not shortest - TOLERANCE_S <= delay <= longest + TOLERANCE_S:
            yield f"{node_id} is tried again after {delay:.3f} s, not {shortest} to {longest} s"


class Writers(Rule):
    """Only the writer that began an attempt reports on it or ends it; others declare it lost."""

    def __init__(self) -> None:
        self._began: dict[str, str] = {}

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check the writer of each event of an attempt."""
        if not at.writer and not self._may_be_unsigned(event, at):
            yield f"{name_of(event)} has no writer"
        if isinstance(event, StepStarted):
            if event.data.remote == bool(at.writer):
                yield f"an attempt of {event.data.node_id} is begun by {at.writer or 'an actor'}"
            self._began[event.data.node_id] = at.writer
        elif isinstance(event, StepEvent) and not isinstance(event, StepSkipped):
            yield from self._goes_on(event, at)

    def _may_be_unsigned(self, event: Event, at: Reading) -> bool:
        """Return whether the API or an actor, which have no writer's name, may write an event."""
        if isinstance(event, StepStarted):
            return event.data.remote
        if isinstance(event, StepEvent):
            return at.step(event.data.node_id).is_remote
        return isinstance(event, CommandRequested) or at.state.created_at is None

    def _goes_on(self, event: StepEvent, at: Reading) -> Iterator[str]:
        node_id = event.data.node_id
        step = at.step(node_id)
        began = self._began.get(node_id)
        runs_locally = step.status == "running" and step.items is None
        if not runs_locally or at.writer == began or self._is_loss(event, step):
            return
        yield f"{name_of(event)} of {node_id} is by {at.writer}, but its attempt by {began}"

    def _is_loss(self, event: StepEvent, step: StepState) -> bool:
        match event:
            case StepRetrying():
                return event.data.cause in {"crash", "handover"}
            case StepFailed():
                return "lost" in event.data.error
            case StepCompleted() | StepWaiting() | StepExpanded() | StepProgressed() | StepLogged():
                return False
            case _:
                return step.is_remote


class Signals(Rule):
    """A wait ends once, by the signal in the log or by its timeout, and reports which."""

    def sees(self, event: Event, at: Reading) -> Iterator[str]:
        """Check each signal, and each end of a wait."""
        if isinstance(event, CommandRequested):
            yield from self._comes(event, at)
        elif isinstance(event, StepCompleted | StepFailed | StepRetrying):
            step = at.step(event.data.node_id)
            if waits_for(step, "signal") and step.waiting is not None:
                yield from self._ends(event, step, step.waiting)

    def _comes(self, event: CommandRequested, at: Reading) -> Iterator[str]:
        command = event.data
        if command.command != "resolve" or command.procedure is None:
            return
        waiting = at.step(command.node_id or "").waiting
        if waiting is None:
            return
        if command.procedure not in waiting.triggers:
            yield f"{command.node_id} does not wait for {command.procedure}"
        if waiting.match is not None:
            names = {"event": command.event}
            if evaluate(compile_expression(waiting.match), at.state, names) is not True:
                yield f"{command.node_id} receives an event that does not match"

    def _ends(
        self, event: StepCompleted | StepFailed | StepRetrying, step: StepState, waiting: StepWait
    ) -> Iterator[str]:
        node_id = step.node_id
        match event:
            case StepRetrying():
                yield f"{node_id} is tried again although it waits for a signal"
            case StepCompleted() if step.resolution is not None:
                signal = step.resolution
                if waiting.on_reject == "fail" and signal.decision == "rejected":
                    yield f"{node_id} succeeds although it was rejected"
                if event.data.output != _answer(signal):
                    yield f"{node_id} has the output {event.data.output}, not that of its signal"
            case StepCompleted():
                yield from self._times_out(event, step, waiting, "continue")
                decision = (event.data.output or {}).get("decision")
                if decision != "timeout":
                    yield f"{node_id} has the decision {decision!r}, but there was no signal"
            case StepFailed() if step.resolution is not None:
                if waiting.on_reject != "fail" or step.resolution.decision != "rejected":
                    yield f"{node_id} fails although it has its signal"
            case StepFailed():
                yield from self._times_out(event, step, waiting, "fail")

    def _times_out(
        self, event: Event, step: StepState, waiting: StepWait, how: str
    ) -> Iterator[str]:
        if step.due is None:
            yield f"{step.node_id} ends although no signal has come and it has no timeout"
        elif waiting.on_timeout != how:
            yield f"{step.node_id} times out by {how}, not by {waiting.on_timeout}"
        yield from on_time(event, step.node_id, step.due)


def _answer(given: Command) -> dict[str, Any]:
    return {
        "decision": given.decision,
        "data": given.data,
        "actor": given.actor or None,
        "event": given.event,
    }
