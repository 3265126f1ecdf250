"""``tailrace rerun``: run again what has ended."""

import sys

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option
from tailrace.commands.run import started


@click.command
@click.argument("execution")
@click.option("--from", "from_node", metavar="NODE", help="Keep what NODE did not lead to.")
@click.option("--watch", "watched", is_flag=True, help="Follow the new run until it ends.")
@json_option
@client_command
def rerun(
    client: Client, execution: str, from_node: str | None, watched: bool, as_json: bool
) -> None:
    """Run EXECUTION again, with its version and input.

    With --from the new run keeps what has succeeded, but for NODE and what needs it. Exit codes
    and --json are those of `tailrace run`.
    """
    execution_id: str = client.rerun(execution, from_node)["execution_id"]
    sys.exit(started(client, execution_id, watched=watched, as_json=as_json))
