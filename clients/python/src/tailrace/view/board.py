"""Draw a run for a terminal, with its progress and its steps by layer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tailrace.view.eta import remaining_seconds
from tailrace.view.layout import FoldedRow, MoreRow, Row, StepRow
from tailrace.view.model import DONE, ENDED, Run, Step

HEAD_LINES: Final = 2
_BAR_WIDTH: Final = 16
_NAME_WIDTH: Final = 0.45
_DETAIL_STYLES: Final[Mapping[str, str]] = {
    "pending": "dim",
    "skipped": "dim",
    "success": "dim",
    "running": "yellow",
    "waiting": "yellow",
    "retrying": "yellow",
    "error": "red",
}


class StatusStyle(NamedTuple):
    """Symbols, colour and word of a step status."""

    glyph: str
    ascii: str
    colour: str
    word: str


STATUS_STYLES: Final[Mapping[str, StatusStyle]] = {
    "pending": StatusStyle("·", ".", "dim", "to come"),
    "running": StatusStyle("●", "*", "cyan", "running"),
    "waiting": StatusStyle("◷", "w", "yellow", "waiting"),
    "retrying": StatusStyle("↻", "r", "yellow", "retrying"),
    "success": StatusStyle("✓", "+", "green", "done"),
    "error": StatusStyle("✗", "x", "bold red", "failed"),
    "skipped": StatusStyle("○", "-", "dim", "skipped"),
    "cancelled": StatusStyle("■", "#", "magenta", "cancelled"),
}
RUN_STYLES: Final[Mapping[str, str]] = {
    "queued": "dim",
    "running": "cyan",
    "paused": "yellow",
    "completed": "bold green",
    "failed": "bold red",
    "cancelled": "bold magenta",
}


def board(
    run: Run, lines: Sequence[Row], now: float, width: int, *, unicode: bool = True
) -> RenderableType:
    """Return the drawing of a run.

    Args:
        now: the current time, in seconds since the epoch.
        width: columns of the terminal.
        unicode: whether the terminal can show more than ASCII.
    """
    body = Table.grid(padding=(0, 1))
    layer_width = len(str(len(run.layers) + 1))
    body.add_column(justify="right", style="dim", width=layer_width)
    body.add_column(width=1)
    body.add_column(no_wrap=True, overflow="ellipsis", width=int(width * _NAME_WIDTH))
    body.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    body.add_column(justify="right", no_wrap=True, width=8)
    body.width = width
    shown_layer = 0
    for line in lines:
        if isinstance(line, MoreRow):
            body.add_row("", "", Text(f"{line.arrow} {line.lines} more", style="dim"))
            continue
        label = str(line.layer) if line.layer != shown_layer else ""
        shown_layer = line.layer
        if isinstance(line, StepRow):
            body.add_row(label, *_step_cells(line.step, now, unicode=unicode))
        else:
            body.add_row(label, *_folded_cells(line, unicode=unicode))
    hint = Text(hint_text(run), style="yellow", no_wrap=True, overflow="ellipsis")
    hints = [hint] if hint else []
    return Group(_head(run, now, width), _overall(run, now, width), *hints, body)


def hint_text(run: Run) -> str:
    """Return the command that continues a run; empty if the run needs no user."""
    if run.is_held:
        return f"paused; continue with: tailrace resume {run.execution_id}"
    waiting = run.waiting()
    if not waiting or run.status in ENDED:
        return ""
    node = f" --node {waiting[0].id}" if len(waiting) > 1 else ""
    return f"decide with: tailrace resume {run.execution_id}{node} --approve (or --reject)"


def seconds_text(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def printable(text: str) -> str:
    """Replace characters of a node's text that would move the cursor or begin a line."""
    return "".join(char if char.isprintable() else " " for char in text)


def counts_text(counts: Counter[str]) -> str:
    """Return the number of steps per status as text, in the order of a step's life."""
    return ", ".join(
        f"{counts[status]} {STATUS_STYLES[status].word}"
        for status in STATUS_STYLES
        if counts[status]
    )


def _head(run: Run, now: float, width: int) -> RenderableType:
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    head.add_column(no_wrap=True)
    head.add_column(no_wrap=True, justify="right")
    head.width = width
    head.add_row(
        Text(run.workflow, style="bold").append(f" {run.execution_id}", style="dim not bold"),
        Text(run.status, style=RUN_STYLES.get(run.status, "")),
        seconds_text(run.elapsed(now)),
    )
    return head


def _overall(run: Run, now: float, width: int) -> RenderableType:
    counts = run.counts()
    done = sum(counts[status] for status in DONE)
    parts = [f"{run.progress():.0%}", f"{done}/{len(run.steps)}"]
    if counts["error"]:
        parts.append(f"{counts['error']} failed")
    if run.status not in ENDED and (remaining := remaining_seconds(run, now)) is not None:
        parts.append(f"about {seconds_text(remaining)} left")
    if run.expired:
        parts.append("its first events have expired")
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(ratio=1)
    line.add_column(no_wrap=True, justify="right")
    line.width = width
    line.add_row(ProgressBar(total=1.0, completed=run.progress()), " · ".join(parts))
    return line


def _step_cells(step: Step, now: float, *, unicode: bool) -> list[RenderableType]:
    style = STATUS_STYLES.get(step.status, STATUS_STYLES["pending"])
    elapsed = step.elapsed(now)
    return [
        Text(style.glyph if unicode else style.ascii, style=style.colour),
        Text(printable(step.name), style="dim" if style.colour == "dim" else ""),
        _detail(step, now),
        seconds_text(elapsed) if elapsed is not None else "",
    ]


def _detail(step: Step, now: float) -> RenderableType:
    if step.status == "running" and step.percent is not None:
        return _bar(step)
    match step.status:
        case "waiting":
            text = _waiting(step, now)
        case "retrying":
            # The fields of the step describe the attempt that has ended.
            text = f"{_until(f'attempt {step.attempt + 1}', step, now)}: {step.error}"
        case "error":
            text = step.error
        case "pending":
            text = f"after {', '.join(step.needs)}" if step.needs else ""
        case "skipped":
            text = step.message
        case "success" if step.count is not None:
            text = f"{step.count} items"
        case _:
            text = _attempt(step)
    return Text(printable(text), style=_DETAIL_STYLES.get(step.status, ""))


def _waiting(step: Step, now: float) -> str:
    if not step.waits_for:
        return _until("continues", step, now)
    until = "" if step.due is None else f", {_until('times out', step, now)}"
    return f"for {step.waits_for}{until}"


def _bar(step: Step) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    line.add_column(width=_BAR_WIDTH)
    line.add_column(justify="right", no_wrap=True)
    line.add_column(no_wrap=True, overflow="ellipsis")
    words = printable(" · ".join(filter(None, (_attempt(step), step.message))))
    bar = ProgressBar(total=100, completed=step.percent or 0.0, width=_BAR_WIDTH)
    line.add_row(bar, f"{step.percent:.0f}%", Text(words))
    return line


def _attempt(step: Step) -> str:
    return f"attempt {step.attempt}" if step.attempt > 1 else ""


def _until(what: str, step: Step, now: float) -> str:
    return f"{what} in {seconds_text(max((step.due or now) - now, 0.0))}"


def _folded_cells(line: FoldedRow, *, unicode: bool) -> list[RenderableType]:
    # The glyph of the earliest status in the layer.
    status = next((status for status in STATUS_STYLES if line.counts[status]), "pending")
    style = STATUS_STYLES[status]
    return [
        Text(style.glyph if unicode else style.ascii, style=style.colour),
        Text(counts_text(line.counts), style="dim"),
    ]
