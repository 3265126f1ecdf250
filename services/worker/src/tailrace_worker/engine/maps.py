"""How far a map has come: which item is next, how many run. Pure."""

from typing import Literal

from tailrace_shared.execution.state import SETTLED, StepState
from tailrace_shared.workflow.definition import MapWork


class MapProgress:
    """Counts the items of one map.

    Args:
        work: what the map does, and how many items at once.
        total: how many items there are.

    Attributes:
        begun: how many items have begun; they begin in their order.
        first_failed: the item that failed first; -1 while none has.
    """

    def __init__(self, work: MapWork, total: int) -> None:
        self._work = work
        self._total = total
        self._open: set[str] = set()
        self._known: set[str] = set()
        self.first_failed = -1

    @property
    def begun(self) -> int:
        """How many items have begun."""
        return len(self._known)

    def note(self, item: StepState) -> bool:
        """Take an item's state into account; returns whether it has just been settled."""
        is_new = item.node_id not in self._known
        was_open = is_new or item.node_id in self._open
        self._known.add(item.node_id)
        if item.status not in SETTLED:
            self._open.add(item.node_id)
            return False
        self._open.discard(item.node_id)
        if item.status == "error" and self.first_failed < 0:
            self.first_failed = int(item.node_id.rpartition("[")[2][:-1])
        return was_open

    def next_move(self) -> Literal["start", "wait", "fail", "complete"]:
        """Tell what the map does next."""
        if self.first_failed >= 0 and self._work.on_error == "fail":
            return "wait" if self._open else "fail"
        if self.begun < self._total:
            return "start" if len(self._open) < self._work.max_parallel else "wait"
        return "wait" if self._open else "complete"
