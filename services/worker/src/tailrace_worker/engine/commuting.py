"""Whether two writers' events may change places. Pure.

A driver that loses its fence to an actor's commit need not decide anew if what the actor tells has
nothing to do with what the driver was about to append: events of different steps fold to the same
state in either order, and what was decided without those of the actor holds with them as well.
"""

from collections.abc import Iterable

from tailrace_shared.execution.events import Event, StepEvent, StepFailed
from tailrace_shared.execution.items import split_item_id


def commute(theirs: Iterable[Event], ours: Iterable[Event]) -> bool:
    """Tell whether our events may come after theirs although they were decided before.

    Args:
        theirs: what is stored.
        ours: what follows from the state without it.
    """
    touched: set[str] = set()
    closed: set[str] = set()
    for event in theirs:
        # What is marked must be taken out of our events, too; so they must be made again.
        if not isinstance(event, StepEvent) or getattr(event.data, "sensitive", None):
            return False
        node_id, index = split_item_id(event.data.node_id)
        touched |= {event.data.node_id, node_id}
        if index is not None and isinstance(event, StepFailed):
            closed.add(node_id)  # no more items of this map may begin
    return all(
        isinstance(event, StepEvent)
        and event.data.node_id not in touched
        and split_item_id(event.data.node_id)[0] not in closed
        for event in ours
    )
