"""``tailrace watch``: follow an existing run."""

import sys

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option
from tailrace.commands.completion import complete_runs
from tailrace.view.follow import follow


@click.command
@click.argument("execution", shell_complete=complete_runs)
@click.option("--from", "last_event_id", metavar="ID", default="", help="Only events after ID.")
@json_option
@client_command
def watch(client: Client, execution: str, last_event_id: str, as_json: bool) -> None:
    """Follow EXECUTION from its first event until it ends.

    The exit code is 0 if the run completed, 1 if it failed, 3 if it was cancelled.
    """
    sys.exit(follow(client, execution, last_event_id, as_json=as_json))
