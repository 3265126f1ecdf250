"""``tailrace rerun``: run an ended run again."""

import sys

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option
from tailrace.commands.run import report_started


@click.command
@click.argument("execution")
@click.option("--from", "from_node", metavar="NODE", help="Run only NODE and its dependants again.")
@click.option("--watch", "watched", is_flag=True, help="Follow the new run until it ends.")
@json_option
@client_command
def rerun(
    client: Client, execution: str, from_node: str | None, watched: bool, as_json: bool
) -> None:
    """Run EXECUTION again, with the same version and input.

    With --from the new run keeps the succeeded steps, except NODE and the nodes that depend on it.
    Exit codes and --json are those of `tailrace run`.
    """
    execution_id: str = client.rerun(execution, from_node)["execution_id"]
    sys.exit(report_started(client, execution_id, watched=watched, as_json=as_json))
