"""``tailrace pause``: let a run start no more steps."""

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json


@click.command
@click.argument("execution")
@click.option("--reason", help="Why; it is kept in the run's log.")
@json_option
@client_command
def pause(client: Client, execution: str, reason: str | None, as_json: bool) -> None:
    """Pause EXECUTION: what runs is finished, nothing new is started."""
    answer = client.pause(execution, reason)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{execution} will be paused; let it go on with: tailrace resume {execution}")
