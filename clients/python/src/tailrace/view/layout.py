"""Which lines of a run fit a screen.

Every step has a line as long as there is room. Then layers in which nothing happens fold into
one line each, and those in which something does show what is active or has failed. If that is
still too much, a window moves along with the first active step.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from tailrace.view.model import ACTIVE, Run, Step

_ABOVE: Final = 3
"""One of so many lines of the window stands above the first active one."""


class StepRow(NamedTuple):
    """One step."""

    layer: int
    step: Step


class FoldedRow(NamedTuple):
    """Several steps of one layer, counted by status."""

    layer: int
    counts: Counter[str]


class MoreRow(NamedTuple):
    """Lines outside of the window."""

    arrow: str
    lines: int


Row = StepRow | FoldedRow | MoreRow


def rows(run: Run, height: int | None = None) -> list[Row]:
    """Return the lines to show, at most ``height`` of them; all steps if there is no limit."""
    layers = _layers(run)
    everything: list[Row] = [
        StepRow(number, step) for number, layer in enumerate(layers, 1) for step in layer
    ]
    if height is None or len(everything) <= height:
        return everything
    folded = folded_rows(run)
    return folded if len(folded) <= height else _window(folded, height)


def folded_rows(run: Run) -> list[Row]:
    """Return a line for each layer, and for each step that is active or has failed."""
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
    strangers = [step for node, step in run.steps.items() if node not in placed]
    return [*layers, strangers] if strangers else layers


def _window(lines: Sequence[Row], height: int) -> list[Row]:
    anchor = _anchor(lines)
    inside = max(height - 2, 1)
    begin = min(max(anchor - inside // _ABOVE, 0), len(lines) - inside)
    end = begin + inside
    above = [MoreRow("↑", begin)] if begin else []
    below = [MoreRow("↓", len(lines) - end)] if end < len(lines) else []
    return [*above, *lines[begin:end], *below]


def _anchor(lines: Sequence[Row]) -> int:
    """Return the line of the first active step, else of the first one still to come."""
    for wanted in (ACTIVE, {"pending"}):
        for index, line in enumerate(lines):
            if isinstance(line, StepRow) and line.step.status in wanted:
                return index
    return len(lines) - 1
