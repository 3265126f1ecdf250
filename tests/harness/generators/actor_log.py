"""Logs of an execution whose step ``a`` is an actor's, up to some point of its life."""

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
        until: what step ``a`` is then: ``queued`` (there is no step yet), ``waiting``,
            ``running``, ``retrying``, ``waiting again``, ``running again`` or ``completed``.
        more: what follows.
    """
    lives: dict[str, list[Event]] = {"queued": [queued()]}
    lives["waiting"] = [*lives["queued"], started(), waits(1)]
    lives["running"] = [*lives["waiting"], begins(1)]
    lives["retrying"] = [*lives["running"], fails(1)]
    lives["waiting again"] = [*lives["retrying"], waits(2)]
    lives["running again"] = [*lives["waiting again"], begins(2)]
    lives["completed"] = [*lives["running"], completes(1)]
    return [*lives[until], *more]


def queued(run_input: Any = None) -> Event:
    """Return the beginning of the log."""
    return ExecutionQueued(Queued("e", "test", "test", 1, run_input, "queued"), _STAMP)


def started() -> Event:
    """Return the beginning of the execution."""
    return ExecutionStarted(Started("e", "running", _STAMP), _STAMP)


def waits(attempt: int, step: str = "a") -> Event:
    """Return that a step waits for an actor."""
    wait = StepWait(step, _TYPE, "waiting", wait="actor", attempt=attempt)
    return StepWaiting(wait, _STAMP)


def begins(attempt: int, *, remote: bool = True) -> Event:
    """Return that an attempt begins."""
    return StepStarted(StepBegun("a", _TYPE, "running", attempt, _STAMP, remote=remote), _STAMP)


def fails(attempt: int) -> Event:
    """Return that an attempt failed and another follows."""
    again = StepAgain("a", _TYPE, "retrying", attempt, "error", "broken", _STAMP)
    return StepRetrying(again, _STAMP)


def completes(attempt: int) -> Event:
    """Return that the step is done."""
    done = StepDone("a", _TYPE, "success", attempt, _STAMP, _STAMP, 0, None)
    return StepCompleted(done, _STAMP)
