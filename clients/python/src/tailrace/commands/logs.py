"""``tailrace logs``: print the log lines of a run."""

from collections.abc import Iterable

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.completion import complete_runs
from tailrace.commands.steps import step_of
from tailrace.stream import Event
from tailrace.view.lines import event_line

_LINES = "step:log"


@click.command
@click.argument("execution", shell_complete=complete_runs)
@click.option("--node", metavar="NODE", help="Only lines of one step, and of its items.")
@click.option("--all", "every", is_flag=True, help="All events, not only lines that nodes wrote.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@json_option
@client_command
def logs(
    client: Client, execution: str, node: str | None, every: bool, follow: bool, as_json: bool
) -> None:
    """Print the lines that the nodes of EXECUTION wrote."""
    for event in _followed(client, execution, node) if follow else _stored(client, execution, node):
        is_wanted = every or event.type == _LINES
        if not is_wanted or not _is_of(event, node):
            continue
        if as_json:
            print_json({"type": event.type, "data": event.data, "timestamp": event.timestamp})
        else:
            click.echo(event_line(event))


def _followed(client: Client, execution: str, node: str | None) -> Iterable[Event]:
    if node is not None:
        # An item may not exist yet, but its map does.
        step_of(client.get(execution), node.partition("[")[0])
    return client.events(execution)


def _stored(client: Client, execution: str, node: str | None) -> Iterable[Event]:
    document = client.get(execution, include_logs=True)
    if node is not None:
        step_of(document, node)
    for entry in document["logs"]:
        yield Event(entry["id"], entry["type"], entry["data"], entry["timestamp"])


def _is_of(event: Event, node: str | None) -> bool:
    step = event.data.get("node_id", "")
    return node is None or step == node or step.startswith(f"{node}[")
