"""Follow a run until it ends, as a live board, as lines of text, or as JSON."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec
from rich.console import Console, RenderableType
from rich.live import Live

from tailrace.client import Client
from tailrace.errors import RefusedError
from tailrace.stream import ExecutionStream
from tailrace.view.board import HEAD_LINES, board, hint_text
from tailrace.view.layout import folded_rows, rows
from tailrace.view.lines import event_line, summary
from tailrace.view.model import ENDED, Run

EXIT_CODES: Final[Mapping[str, int]] = {"completed": 0, "failed": 1, "cancelled": 3}
INTERRUPTED: Final = 130

_FRAMES_PER_SECOND: Final = 8
_MANY_STEPS: Final = 1000
_LARGE_FRAMES_PER_SECOND: Final = 2
"""A frame reads every step; ten thousand steps would otherwise take most of a core."""
_MAX_FINAL_LINES: Final = 200
_STREAM_ONLY: Final = "connected"
_PAUSED: Final = "execution:paused"


def follow(
    client: Client, execution_id: str, last_event_id: str = "", *, as_json: bool = False
) -> int:
    """Show a run until it ends; return the exit code for its status.

    Ctrl-C ends the command, not the run.
    """
    try:
        return _follow(client, execution_id, last_event_id, as_json=as_json)
    except KeyboardInterrupt:
        click.echo(f"still running; watch it again with: tailrace watch {execution_id}", err=True)
        return INTERRUPTED


def _follow(client: Client, execution_id: str, last_event_id: str, *, as_json: bool) -> int:
    document = client.get(execution_id)
    stream = client.events(execution_id, last_event_id)
    console = Console()
    if as_json:
        _print_json(stream)
    # After an id, the board would show earlier steps as if they had not run.
    elif last_event_id or not console.is_terminal or console.is_dumb_terminal:
        _print_lines(stream, Run(execution_id), hinting=document["status"] not in ENDED)
    else:
        _draw(stream, run_with_graph(client, document), console)
    document = client.get(execution_id)
    if as_json:
        click.echo(msgspec.json.encode(document))
    else:
        run = Run(execution_id)
        run.add_document(document)
        click.echo(summary(run, time.time()))
    return EXIT_CODES.get(document["status"], 1)


def draw(run: Run, console: Console, now: float, height: int | None = None) -> RenderableType:
    """Return the drawing of a run for a console, at most ``height`` lines high."""
    if height is None and len(run.steps) > _MAX_FINAL_LINES:
        lines = folded_rows(run)
    else:
        taken = HEAD_LINES + bool(hint_text(run))
        lines = rows(run, None if height is None else max(height - taken, 1))
    return board(run, lines, now, console.width, unicode=console.encoding.startswith("utf"))


def run_with_graph(client: Client, document: Mapping[str, Any]) -> Run:
    """Return a run with the graph of its workflow and no events."""
    run = Run(document["execution_id"], workflow=document["workflow_id"])
    try:
        run.add_graph(client.graph(run.workflow, document["version"]))
    except RefusedError as error:
        # A run may outlive its workflow; without a graph its steps appear when they start.
        if error.status != 404:
            raise
    return run


def _print_json(stream: ExecutionStream) -> None:
    for event in stream:
        click.echo(msgspec.json.encode(event))


def _print_lines(stream: ExecutionStream, run: Run, *, hinting: bool) -> None:
    shown = ""
    for event in stream:
        if event.type != _STREAM_ONLY:
            click.echo(event_line(event))
        run.apply(event)
        # An ended run needs no decision, although its log contains old waits.
        if hinting and event.type == _PAUSED and (hint := hint_text(run)) != shown:
            click.echo(hint, err=True)
            shown = hint


def _draw(stream: ExecutionStream, run: Run, console: Console) -> None:
    lock = threading.Lock()

    def frame() -> RenderableType:
        # One line stays free for the cursor; otherwise every frame would scroll the terminal.
        height = None if run.status in ENDED else console.height - 1
        with lock:
            return draw(run, console, time.time(), height)

    large = len(run.steps) > _MANY_STEPS
    with Live(
        get_renderable=frame,
        console=console,
        refresh_per_second=_LARGE_FRAMES_PER_SECOND if large else _FRAMES_PER_SECOND,
        vertical_overflow="crop",
    ):
        for event in stream:
            with lock:
                run.apply(event)
