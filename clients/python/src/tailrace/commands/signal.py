"""``tailrace signal``: send a trigger to the steps that await it."""

from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.json_input import JsonInput


@click.command
@click.argument("procedure")
@click.option("--data", type=JsonInput(), help="The event, a JSON object.  [default: {}]")
@json_option
@client_command
def signal(client: Client, procedure: str, data: Any, as_json: bool) -> None:
    """Send the trigger PROCEDURE to all steps that await it and whose `match` accepts it.

    The trigger is stored for a day, for steps with a `lookback`.
    """
    matched = client.signal(procedure, data)
    if as_json:
        print_json({"matched": matched})
    else:
        click.echo(f"{matched} resumed")
