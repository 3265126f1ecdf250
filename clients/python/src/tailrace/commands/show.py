"""``tailrace show``: one run in full."""

import sys
import time

import click
from rich.console import Console

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.view.follow import draw, run_with_graph

_PIPED_WIDTH = 140


@click.command
@click.argument("execution")
@click.option("--logs", is_flag=True, help="With --json: every event of its log, too.")
@json_option
@client_command
def show(client: Client, execution: str, logs: bool, as_json: bool) -> None:
    """Show EXECUTION: its status, its steps, its output."""
    document = client.get(execution, include_logs=logs)
    if as_json:
        print_json(document)
        return
    # Not cut to a terminal's width where there is no terminal.
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    run = run_with_graph(client, document)
    run.add_document(document)
    console.print(draw(run, console, time.time()))
    if run.error:
        console.print(run.error, style="red", markup=False)
    if document.get("output") is not None:
        console.print_json(data=document["output"])
