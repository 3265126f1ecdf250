"""``tailrace cancel``: stop a run."""

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json


@click.command
@click.argument("execution")
@click.option("--reason", help="Reason; recorded in the run's log.")
@json_option
@client_command
def cancel(client: Client, execution: str, reason: str | None, as_json: bool) -> None:
    """Cancel EXECUTION."""
    answer = client.cancel(execution, reason)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{execution} will be cancelled")
