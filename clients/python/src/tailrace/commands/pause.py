"""``tailrace pause``: pause a run."""

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.completion import complete_runs


@click.command
@click.argument("execution", shell_complete=complete_runs)
@click.option("--reason", help="Reason; recorded in the run's log.")
@json_option
@client_command
def pause(client: Client, execution: str, reason: str | None, as_json: bool) -> None:
    """Pause EXECUTION. Running steps finish; no new steps start."""
    answer = client.pause(execution, reason)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{execution} will be paused; continue with: tailrace resume {execution}")
