"""``tailrace resume``: continue a paused run, or decide a waiting step."""

from collections.abc import Mapping
from typing import Any, Final

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.completion import complete_runs
from tailrace.commands.json_input import JsonInput

_ENDED: Final = frozenset({"completed", "failed", "cancelled"})


@click.command
@click.argument("execution", shell_complete=complete_runs)
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
    """Continue a paused EXECUTION, or decide its waiting step.

    Without --approve or --reject a run that was paused continues, and any other is refused. With
    one of them a step is decided, whether the run is paused or not.
    """
    if approved is None:
        _check_continues(client.get(execution), node, data)
    decision = None if approved is None else "approved" if approved else "rejected"
    # A colleague may have resumed the run since: without a decision nothing may be approved.
    answer = client.resume(
        execution, node, decision=decision, data=data, only_paused=approved is None
    )
    if as_json:
        print_json(answer)
    else:
        click.echo(f"{execution} will continue")


def _check_continues(document: Mapping[str, Any], node: str | None, data: Any) -> None:
    """Refuse what would decide a step without the operator's decision.

    Raises:
        click.UsageError: ``--approve`` or ``--reject`` is missing.
    """
    is_decision = node is not None or data is not None
    # The API refuses commands to a run that has ended, with the reason.
    if is_decision or not (document.get("held") or document["status"] in _ENDED):
        raise click.UsageError("a step waits for a decision: add --approve or --reject")
