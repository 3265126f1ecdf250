"""Logs of an execution whose step ``a`` runs on an actor, up to a chosen point."""

from typing import Any, Final

from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    Completed,
    Event,
    ExecutionCompleted,
    ExecutionPaused,
    ExecutionQueued,
    ExecutionStarted,
    Paused,
    Queued,
    Started,
    StepAgain,
    StepBegun,
    StepCompleted,
    StepDone,
    StepRetrying,
    StepStarted,
    StepWait,
    StepWaiting,
)
from tailrace_shared.execution.timestamps import format_timestamp

NOW: Final = 1_700_000_000.0
_STAMP: Final = format_timestamp(NOW)
_TYPE: Final = "ocr.page"

HELD: Final = CommandRequested(Command("e", "pause", "p1"), _STAMP)
RELEASED: Final = CommandRequested(Command("e", "resume", "r1"), _STAMP)
CANCELLING: Final = CommandRequested(Command("e", "cancel", "c1"), _STAMP)
PAUSED: Final = ExecutionPaused(Paused("e", "paused", "requested", requested=True), _STAMP)
ENDED: Final = ExecutionCompleted(Completed("e", "completed", 0), _STAMP)


def actor_log(until: str, *more: Event) -> list[Event]:
    """Return a log of the execution ``e``, and ``more``.

    Args:
        until: the state of step ``a`` at the end: ``queued`` (no step yet), ``waiting``,
            ``running``, ``retrying``, ``waiting again``, ``running again`` or ``completed``.
        more: events to append.
    """
    logs: dict[str, list[Event]] = {"queued": [queued()]}
    logs["waiting"] = [*logs["queued"], started(), waits(1)]
    logs["running"] = [*logs["waiting"], begins(1)]
    logs["retrying"] = [*logs["running"], fails(1)]
    logs["waiting again"] = [*logs["retrying"], waits(2)]
    logs["running again"] = [*logs["waiting again"], begins(2)]
    logs["completed"] = [*logs["running"], completes(1)]
    return [*logs[until], *more]


def queued(run_input: Any = None) -> Event:
    """Return the beginning of the log."""
    return ExecutionQueued(Queued("e", "test", "test", 1, run_input, "queued"), _STAMP)


def started() -> Event:
    """Return the beginning of the execution."""
    return ExecutionStarted(Started("e", "running", _STAMP), _STAMP)


def waits(attempt: int, step: str = "a") -> Event:
    """Return the event: a step waits for an actor."""
    wait = StepWait(step, _TYPE, "waiting", wait="actor", attempt=attempt)
    return StepWaiting(wait, _STAMP)


def begins(attempt: int, *, remote: bool = True) -> Event:
    """Return the event: an attempt begins."""
    return StepStarted(StepBegun("a", _TYPE, "running", attempt, _STAMP, remote=remote), _STAMP)


def fails(attempt: int) -> Event:
    """Return the event: an attempt failed and will be retried."""
    again = StepAgain("a", _TYPE, "retrying", attempt, "error", "broken", _STAMP)
    return StepRetrying(again, _STAMP)


def completes(attempt: int) -> Event:
    """Return the event: the step has succeeded."""
    done = StepDone("a", _TYPE, "success", attempt, _STAMP, _STAMP, 0, None)
    return StepCompleted(done, _STAMP)
