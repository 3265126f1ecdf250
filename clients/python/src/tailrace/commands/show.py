"""``tailrace show``: show one run in full."""

import sys
import time

import click
from rich.console import Console

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.completion import complete_runs
from tailrace.commands.steps import step_of
from tailrace.stream import Event
from tailrace.view.follow import draw, run_with_graph
from tailrace.view.lines import event_line

_PIPED_WIDTH = 140


@click.command
@click.argument("execution", shell_complete=complete_runs)
@click.argument("node", required=False)
@click.option("--logs", is_flag=True, help="Include all events of the log.")
@json_option
@client_command
def show(client: Client, execution: str, node: str | None, logs: bool, as_json: bool) -> None:
    """Show status, steps and output of EXECUTION, or one step of it.

    NODE is the id of a node, or of an item of a map such as each[0].
    """
    if node is not None:
        _show_step(client, execution, node, as_json=as_json)
        return
    document = client.get(execution, include_logs=logs)
    if as_json:
        print_json(document)
        return
    # Without a terminal there is no width to fit.
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    run = run_with_graph(client, document)
    run.add_document(document)
    console.print(draw(run, console, time.time()))
    if run.error:
        console.print(run.error, style="red", markup=False)
    for step in document["steps"]:
        if detail := step.get("error_detail"):
            console.print(f"\n{step['node_id']}:", markup=False)
            console.print(detail, style="dim", markup=False, highlight=False)
    if document.get("output") is not None:
        console.print_json(data=document["output"])
    for event in document.get("logs") or ():
        line = event_line(Event(event["id"], event["type"], event["data"], event["timestamp"]))
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_step(client: Client, execution: str, node: str, *, as_json: bool) -> None:
    document = client.get(execution, include_logs=True)
    step = step_of(document, node)
    events = [
        Event(entry["id"], entry["type"], entry["data"], entry["timestamp"])
        for entry in document["logs"]
        if entry["data"].get("node_id") == node
    ]
    if as_json:
        print_json({**step, "events": [{"type": e.type, "data": e.data} for e in events]})
        return
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    attempts = f", attempt {step['attempt']}" if step["attempt"] > 1 else ""
    console.print(f"{node} ({step['node_type']}): {step['status']}{attempts}", markup=False)
    for event in events:
        console.print(event_line(event), markup=False, highlight=False, soft_wrap=True)
    if detail := step.get("error_detail"):
        console.print(detail, style="dim", markup=False, highlight=False)
    if step.get("output") is not None:
        console.print_json(data=step["output"])
