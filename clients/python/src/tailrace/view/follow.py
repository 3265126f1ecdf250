"""Following a run until it ends: drawn live, as lines of text, or as JSON."""

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
_FRAMES_OF_MANY_STEPS: Final = 2
"""A frame looks at every step; of ten thousand it would else take most of a core."""
_MOST_LINES_AT_THE_END: Final = 200
_STREAM_ONLY: Final = "connected"
_PAUSED: Final = "execution:paused"


def follow(
    client: Client, execution_id: str, last_event_id: str = "", *, as_json: bool = False
) -> int:
    """Show a run until it ends; return the exit code that says how.

    Ctrl-C ends the watching, not the run.
    """
    document = client.get(execution_id)
    stream = client.events(execution_id, last_event_id)
    console = Console()
    try:
        if as_json:
            _print_json(stream)
        # From an id on, the board would begin with steps that seem not to have run.
        elif last_event_id or not console.is_terminal or console.is_dumb_terminal:
            _print_lines(stream, Run(execution_id), hinting=document["status"] not in ENDED)
        else:
            _draw(stream, run_with_graph(client, document), console)
    except KeyboardInterrupt:
        click.echo(f"still running; watch it again with: tailrace watch {execution_id}", err=True)
        return INTERRUPTED
    document = client.get(execution_id)
    if as_json:
        click.echo(msgspec.json.encode(document))
    else:
        run = Run(execution_id)
        run.add_document(document)
        click.echo(summary(run, time.time()))
    return EXIT_CODES.get(document["status"], 1)


def draw(run: Run, console: Console, now: float, height: int | None = None) -> RenderableType:
    """Return the drawing of a run for a console, at most ``height`` lines of it."""
    if height is None and len(run.steps) > _MOST_LINES_AT_THE_END:
        lines = folded_rows(run)
    else:
        taken = HEAD_LINES + bool(hint_text(run))
        lines = rows(run, None if height is None else max(height - taken, 1))
    return board(run, lines, now, console.width, unicode=console.encoding.startswith("utf"))


def run_with_graph(client: Client, document: Mapping[str, Any]) -> Run:
    """Return a run of which nothing is known but the graph of its workflow."""
    run = Run(document["execution_id"], workflow=document["workflow_id"])
    try:
        run.add_graph(client.graph(run.workflow, document["version"]))
    except RefusedError as error:
        # A run outlives its workflow: without the graph its steps appear as they start.
        if error.status != 404:
            raise
    return run


def _print_json(stream: ExecutionStream) -> None:
    for event in stream:
        click.echo(msgspec.json.encode(event))


def _print_lines(stream: ExecutionStream, run: Run, *, hinting: bool) -> None:
    told = ""
    for event in stream:
        if event.type != _STREAM_ONLY:
            click.echo(event_line(event))
        run.apply(event)
        # What a run that has ended once waited for needs nobody any more.
        if hinting and event.type == _PAUSED and (hint := hint_text(run)) != told:
            click.echo(hint, err=True)
            told = hint


def _draw(stream: ExecutionStream, run: Run, console: Console) -> None:
    lock = threading.Lock()

    def frame() -> RenderableType:
        # One line stays free for the cursor, or every frame would scroll the terminal.
        height = None if run.status in ENDED else console.height - 1
        with lock:
            return draw(run, console, time.time(), height)

    large = len(run.steps) > _MANY_STEPS
    with Live(
        get_renderable=frame,
        console=console,
        refresh_per_second=_FRAMES_OF_MANY_STEPS if large else _FRAMES_PER_SECOND,
        vertical_overflow="crop",
    ):
        for event in stream:
            with lock:
                run.apply(event)
