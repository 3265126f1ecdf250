"""Outcomes of attempts as data, and the events that record them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tailrace_shared.execution.events import (
    OutputRef,
    StepAgain,
    StepCompleted,
    StepDone,
    StepError,
    StepFailed,
    StepRetrying,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.timestamps import format_timestamp, parse_timestamp
from tailrace_shared.ids import new_execution_id
from tailrace_shared.workflow.definition import Node
from tailrace_worker.engine.decide.retry_policy import retry_delay
from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal

MAX_ERROR_CHARACTERS: Final = 4096
MAX_WAITING_LISTED: Final = 100
"""The end of an execution names at most so many of the steps that were waiting."""
MAX_OPEN_LISTED: Final = 100
"""The end of an execution describes at most so many of the steps that had not ended."""
MAX_WAITS_LISTED: Final = 15
"""The end of a wait describes at most so many of the waits that go on."""
MAX_IDLE_S: Final = 2.0
"""A drive waits for timers within so many seconds; for later ones it schedules a job in NATS."""
# A step that no worker can run fails after about ten minutes.
_MAX_SEARCH_ATTEMPTS: Final = 30
_MAX_SEARCH_S: Final = 30.0

_DOCUMENT_FIELDS: Final = ("generated_document_id", "document_id")

Cause = Literal["error", "crash", "handover"]


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt succeeded.

    Attributes:
        output: the output; ``msgspec.UNSET`` if it is stored elsewhere and no expression uses it.
        encoded: the output as JSON, if it is too large for an event.
        ref: where the output has been stored.
        sensitive: sensitive places in the output that are known without the definition.
    """

    output: Any
    encoded: bytes | None = None
    ref: OutputRef | None = None
    sensitive: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Erred:
    """The attempt failed.

    Attributes:
        detail: the traceback of the error, or the response that a server sent with it.
    """

    message: str
    retryable: bool = True
    # Excluded from comparison: a traceback names lines of code.
    detail: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Unable:
    """This worker cannot run the node; another worker may."""

    message: str


Outcome = Succeeded | Erred | Unable | Wait | ForSignal | ForChild
EndEvent = StepCompleted | StepFailed | StepRetrying | StepWaiting


def end_event(step: StepState, outcome: Outcome, node: Node, now: float, draw: float) -> EndEvent:
    """Return the event that records an attempt's outcome.

    Args:
        node: the node, or what a map does for an item.
        now: seconds since the epoch.
        draw: a random number in [0, 1), for the jitter of retries.
    """
    stamp = format_timestamp(now)
    match outcome:
        case Succeeded(output, _encoded, ref, sensitive):
            return completed(step, output, stamp, ref, sensitive)
        case Wait() | ForSignal() | ForChild():
            return StepWaiting(_wait(step, outcome, node, now), stamp)
        case Unable(message):
            if step.attempt >= _MAX_SEARCH_ATTEMPTS:
                return failed(step, message, stamp)
            # Longer than this drive waits for a timer, so that the job may go to another worker.
            search = min(MAX_IDLE_S + step.attempt, _MAX_SEARCH_S)
            return retrying(step, "handover", message, now + search, stamp)
        case Erred(message, retryable, detail):
            delay = retry_delay(node.retry, step.failures + 1, draw) if retryable else None
            if delay is None:
                return failed(step, message, stamp, detail)
            return retrying(step, "error", message, now + delay, stamp, detail)


def lost(step: StepState, node: Node, cause: Cause, reason: str, now: float) -> EndEvent:
    """Return the event of an attempt whose worker was lost, and which may have had effects.

    It is retried at once, unless ``on_crash`` says that its effects must not be repeated.
    """
    stamp = format_timestamp(now)
    if node.on_crash == "fail":
        return failed(step, f"{reason}, and on_crash is fail", stamp)
    return retrying(step, cause, reason, now, stamp)


def _wait(
    step: StepState, outcome: Wait | ForSignal | ForChild, node: Node, now: float
) -> StepWait:
    wait = StepWait(step.node_id, step.node_type, "waiting", attempt=step.attempt, name=step.name)
    limit = node.timeout_seconds
    wait.until = None if limit is None else format_timestamp(now + limit)
    match outcome:
        case Wait(until, seconds):
            wait.until = format_timestamp(now + seconds if until is None else until)
        case ForSignal():
            wait.wait = "signal"
            wait.reason = outcome.reason
            wait.triggers = outcome.triggers
            wait.match = outcome.match
            wait.lookback = float(outcome.lookback)  # a plain float: JSON cannot encode subclasses
            wait.form = outcome.form
            wait.on_reject = outcome.on_reject
            wait.on_timeout = node.on_timeout or "fail"
        case ForChild():
            wait.wait = "child"
            # Decided before the run exists, so that it can be started only once.
            wait.child_execution_id = new_execution_id()
            wait.child_workflow_id = outcome.workflow_id
            wait.child_input = outcome.input
    return wait


def completed(
    step: StepState,
    output: object,
    stamp: str,
    ref: OutputRef | None = None,
    sensitive: Iterable[str] = (),
) -> StepCompleted:
    started_at, duration_ms = _span(step, stamp)
    done = StepDone(
        step.node_id,
        step.node_type,
        "success",
        step.attempt,
        started_at,
        stamp,
        duration_ms,
        None if ref else output,
        output_ref=ref,
        sensitive=list(sensitive),
        stage=step.stage,
        name=step.name,
    )
    return StepCompleted(done, stamp)


def failed(step: StepState, error: str, stamp: str, detail: str = "") -> StepFailed:
    started_at, duration_ms = _span(step, stamp)
    end = StepError(
        step.node_id,
        step.node_type,
        "error",
        step.attempt,
        started_at,
        stamp,
        duration_ms,
        error[:MAX_ERROR_CHARACTERS],
        stage=step.stage,
        waited=step.waiting is not None and step.waiting.wait == "signal",
        error_detail=detail,
        name=step.name,
    )
    return StepFailed(end, stamp)


def retrying(
    step: StepState,
    cause: Literal["error", "crash", "handover"],
    error: str,
    retry_at: float,
    stamp: str,
    detail: str = "",
) -> StepRetrying:
    """Return the event of a failed attempt that another attempt follows."""
    again = StepAgain(
        step.node_id,
        step.node_type,
        "retrying",
        step.attempt,
        cause,
        error[:MAX_ERROR_CHARACTERS],
        format_timestamp(retry_at),
        error_detail=detail,
        name=step.name,
    )
    return StepRetrying(again, stamp)


def generated_document(output: object) -> str | None:
    """Return the id of the document in an output, by the names that existing front ends use.

    Args:
        output: the output of an execution; mostly the outputs of steps by their ids.
    """
    if not isinstance(output, dict):
        return None
    for place in (output, *output.values()):
        for name in _DOCUMENT_FIELDS if isinstance(place, dict) else ():
            if isinstance(found := place.get(name), str):
                return found
    return None


def _span(step: StepState, stamp: str) -> tuple[str, int]:
    started_at = step.started_at or stamp
    elapsed = parse_timestamp(stamp) - parse_timestamp(started_at)
    return started_at, max(0, round(elapsed * 1000))
