"""Track the items of a map, check them, and gather their outputs. Pure."""

from typing import Any, Final, Literal

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.events import MAX_VALUE_BYTES, StepCompleted
from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.execution.transitions import SETTLED
from tailrace_shared.workflow.definition import MapWork
from tailrace_worker.engine.decide.outcomes import completed

_MAX_ITEMS: Final = 10_000
_REPEATED_BYTES: Final = 64 * 1024


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


def checked_items(value: Any) -> list[object]:
    """Return the value of ``for_each``, if a map may have these items.

    Raises:
        ExpressionError: it is not a list, or too large.
    """
    if not isinstance(value, list):
        raise ExpressionError(f"is {repr(value)[:80]}, not a list")
    if len(value) > _MAX_ITEMS:
        raise ExpressionError(f"gives {len(value)} items; the limit is {_MAX_ITEMS}")
    size = len(msgspec.json.encode(value))
    if size > MAX_VALUE_BYTES:
        raise ExpressionError(
            f"gives items of {size} bytes; the limit is {MAX_VALUE_BYTES}: map over "
            "references, such as ids, and let each item fetch its own"
        )
    return value


def gathered(state: ExecutionState, step: StepState, stamp: str) -> StepCompleted:
    """Return the event that completes a map with the outputs of its items."""
    items = (state.steps[item_id(step.node_id, i)] for i in range(len(step.items or [])))
    # One that is stored outside the log is too large.
    has_large = any(item.output_ref is not None for item in items)
    outputs = msgspec.UNSET if has_large else state.gathered_output(step)
    # The items' outputs are in the log already; repeating them is only a convenience.
    is_small = outputs is not msgspec.UNSET and len(msgspec.json.encode(outputs)) <= _REPEATED_BYTES
    done = completed(step, outputs if is_small else None, stamp)
    done.data.output_omitted = not is_small
    return done
