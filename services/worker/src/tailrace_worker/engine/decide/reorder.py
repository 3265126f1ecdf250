"""Decide whether two writers' events commute. Pure.

A driver that loses its fence to an actor's commit need not decide again if the actor's events have
nothing to do with the driver's: events of different steps fold to the same state in either order,
and decisions made without the actor's events hold with them as well.
"""

from collections.abc import Iterable, Sequence

from tailrace_shared.execution.events import (
    Event,
    StepEvent,
    StepFailed,
    StepSkipped,
    StepStarted,
    StepWaiting,
)
from tailrace_shared.execution.items import split_item_id


def commute(theirs: Iterable[Event], ours: Sequence[Event]) -> bool:
    """Return whether our events may follow theirs although they were decided before.

    Args:
        ours: the events that follow from the state without theirs.
    """
    touched: set[str] = set()
    closed: set[str] = set()
    brings_marks = False
    for event in theirs:
        if not isinstance(event, StepEvent):
            return False
        brings_marks = brings_marks or bool(getattr(event.data, "sensitive", None))
        node_id, index = split_item_id(event.data.node_id)
        touched |= {event.data.node_id, node_id}
        if index is not None and isinstance(event, StepFailed):
            closed.add(node_id)  # no more items of this map may start
    # Values marked by their events must be masked in ours too, so ours must be made again.
    if brings_marks and not all(map(_has_no_values, ours)):
        return False
    return all(
        isinstance(event, StepEvent)
        and event.data.node_id not in touched
        and split_item_id(event.data.node_id)[0] not in closed
        for event in ours
    )


def _has_no_values(event: Event) -> bool:
    return isinstance(event, StepStarted | StepSkipped) or (
        isinstance(event, StepWaiting) and event.data.wait == "actor"
    )
