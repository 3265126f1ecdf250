"""``tailrace resume``: let a run go on, or decide what it waits for."""

from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.json_input import JsonInput


@click.command
@click.argument("execution")
@click.option("--node", help="The step to decide.  [default: the only one that waits]")
@click.option("--approve/--reject", "approved", default=None, help="What is decided.")
@click.option("--data", type=JsonInput(), help="What the step asks for.")
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
    """Let EXECUTION go on.

    If it was paused it goes on; else the only step that waits for a decision is approved. With
    --node, --approve, --reject or --data a step is decided, whether the run is paused or not.
    """
    decision = None if approved is None else "approved" if approved else "rejected"
    answer = client.resume(execution, node, decision=decision, data=data)
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{execution} will go on")
