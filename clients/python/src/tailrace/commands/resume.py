"""``tailrace resume``: continue a paused run, or decide a waiting step."""

from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.json_input import JsonInput


@click.command
@click.argument("execution")
@click.option("--node", help="Step to decide.  [default: the only waiting step]")
@click.option("--approve/--reject", "approved", default=None, help="The decision.")
@click.option("--data", type=JsonInput(), help="Data that the step requests.")
@json_option
@client_command
def resume(
    client: Client,
    execution: str,
    node: str | None,
    approved: bool | None,
    data: Any,
    as_json: bool,
) -> None:
    """Continue EXECUTION.

    A paused run continues; of any other run the only waiting step is approved. With --node,
    --approve, --reject or --data a step is decided, whether the run is paused or not.
    """
    decision = None if approved is None else "approved" if approved else "rejected"
    answer = client.resume(execution, node, decision=decision, data=data)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{execution} will continue")
