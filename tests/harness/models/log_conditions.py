"""Conditions on the events of single steps, to wait for, and the data of those events."""

from collections.abc import Callable
from typing import Any

from tailrace_shared.execution.events import (
    Event,
    ExecutionPaused,
    StepCompleted,
    StepEvent,
    StepLogged,
    StepStarted,
    StepWaiting,
)

Condition = Callable[[list[Event]], bool]


def of(events: list[Event], kind: type, step: str) -> list[Any]:
    """Return the data of a step's events of one kind."""
    return [
        event.data
        for event in events
        if isinstance(event, kind) and isinstance(event, StepEvent) and event.data.node_id == step
    ]


def begun(*steps: str) -> Condition:
    """Return a condition: these steps have begun."""
    return _have(StepStarted, steps)


def running(*steps: str) -> Condition:
    """Return a condition: the functions of these steps run and have written a log line."""
    return _have(StepLogged, steps)


def done(*steps: str) -> Condition:
    """Return a condition: these steps have succeeded."""
    return _have(StepCompleted, steps)


def waiting(*steps: str) -> Condition:
    """Return a condition: these steps have begun to wait."""
    return _have(StepWaiting, steps)


def paused(times: int = 1) -> Condition:
    """Return a condition: the execution has paused ``times`` times."""
    return lambda events: sum(isinstance(event, ExecutionPaused) for event in events) >= times


def types_of(events: list[Event]) -> list[str]:
    """Return the types of events, with the step if there is one: ``step:started a``."""
    return [
        f"{type(event).__struct_config__.tag} {event.data.node_id}"
        if isinstance(event, StepEvent)
        else str(type(event).__struct_config__.tag)
        for event in events
    ]


def _have(kind: type, steps: tuple[str, ...]) -> Condition:
    return lambda events: all(of(events, kind, step) for step in steps)
