"""Select the lines of a run that fit a screen.

Every step has a line while there is room. Otherwise idle layers are folded into one line each, and
other layers show their active and failed steps. If that is still too long, a window follows the
first active step.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from tailrace.view.model import ACTIVE, Run, Step

_LINES_PER_LINE_ABOVE: Final = 3
"""One in this many lines of the window is above the first active step."""


class StepRow(NamedTuple):
    """A line for one step."""

    layer: int
    step: Step


class FoldedRow(NamedTuple):
    """A line for several steps of one layer, counted by status."""

    layer: int
    counts: Counter[str]


class MoreRow(NamedTuple):
    """A line for the number of lines outside the window."""

    arrow: str
    lines: int


Row = StepRow | FoldedRow | MoreRow


def rows(run: Run, height: int | None = None) -> list[Row]:
    """Return at most ``height`` lines to show; a line per step if there is no limit."""
    layers = _layers(run)
    everything: list[Row] = [
        StepRow(number, step) for number, layer in enumerate(layers, 1) for step in layer
    ]
    if height is None or len(everything) <= height:
        return everything
    folded = folded_rows(run)
    return folded if len(folded) <= height else _window(folded, height)


def folded_rows(run: Run) -> list[Row]:
    """Return a line per layer, and one per active or failed step."""
    found: list[Row] = []
    for number, layer in enumerate(_layers(run), 1):
        if len(layer) == 1:
            found.append(StepRow(number, layer[0]))
            continue
        shown = [step for step in layer if step.status in ACTIVE or step.status == "error"]
        found.extend(StepRow(number, step) for step in shown)
        if len(shown) < len(layer):
            rest = Counter(step.status for step in layer) - Counter(step.status for step in shown)
            found.append(FoldedRow(number, rest))
    return found


def _layers(run: Run) -> list[list[Step]]:
    placed = {node for layer in run.layers for node in layer}
    layers = [[run.steps[node] for node in layer] for layer in run.layers]
    unplaced = [step for node, step in run.steps.items() if node not in placed]
    return [*layers, unplaced] if unplaced else layers


def _window(lines: Sequence[Row], height: int) -> list[Row]:
    anchor = _anchor(lines)
    inside = max(height - 2, 1)
    begin = min(max(anchor - inside // _LINES_PER_LINE_ABOVE, 0), len(lines) - inside)
    end = begin + inside
    above = [MoreRow("↑", begin)] if begin else []
    below = [MoreRow("↓", len(lines) - end)] if end < len(lines) else []
    return [*above, *lines[begin:end], *below]


def _anchor(lines: Sequence[Row]) -> int:
    """Return the line of the first active step, else of the first pending one."""
    for wanted in (ACTIVE, {"pending"}):
        for index, line in enumerate(lines):
            if isinstance(line, StepRow) and line.step.status in wanted:
                return index
    return len(lines) - 1
