"""Track the progress of a map: its next item, and the number of running ones. Pure."""

from typing import Literal

from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import StepState
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.workflow.definition import MapWork


class MapProgress:
    """Counts the items of one map.

    Args:
        work: what the map does, and its limit of parallel items.
        total: number of items.

    Attributes:
        first_failed: the lowest index of a failed item; -1 while none has failed.
    """

    def __init__(self, work: MapWork, total: int) -> None:
        self._work = work
        self._total = total
        self._open: set[str] = set()
        self._known: set[int] = set()
        self._next = 0
        self.first_failed = -1

    @property
    def next_index(self) -> int:
        """Index of the next item to start. Items start in order; a rerun keeps some of them."""
        while self._next in self._known:
            self._next += 1
        return self._next

    def note(self, item: StepState) -> bool:
        """Update the counts by an item's state; return whether the item has just been settled."""
        index = split_item_id(item.node_id)[1] or 0
        was_open = index not in self._known or item.node_id in self._open
        self._known.add(index)
        if item.status not in SETTLED:
            self._open.add(item.node_id)
            return False
        self._open.discard(item.node_id)
        if item.status == "error":
            self._note_failure(index)
        return was_open

    def next_move(self) -> Literal["start", "wait", "fail", "complete"]:
        if self.first_failed >= 0 and self._work.on_error == "fail":
            return "wait" if self._open else "fail"
        if self.next_index < self._total:
            return "start" if len(self._open) < self._work.max_parallel else "wait"
        return "wait" if self._open else "complete"

    def _note_failure(self, index: int) -> None:
        # The lowest index, not the first to fail: a folded state does not tell the order.
        self.first_failed = index if self.first_failed < 0 else min(index, self.first_failed)
