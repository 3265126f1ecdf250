"""``tailrace run``: start a run, and optionally follow it."""

import sys
from typing import Any, Final

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.commands.completion import complete_tags, complete_workflows
from tailrace.commands.json_input import JsonInput
from tailrace.view.follow import follow

_TAG_HELP: Final = "Tag of the run, in addition to those of the workflow; may be repeated."


@click.command
@click.argument("workflow", shell_complete=complete_workflows)
@click.option("--input", "input_data", type=JsonInput(), help="The run's input. [default: {}]")
@click.option("--tag", "tags", multiple=True, shell_complete=complete_tags, help=_TAG_HELP)
@click.option("--watch", "watched", is_flag=True, help="Follow the run until it ends.")
@json_option
@client_command
def run(
    client: Client,
    workflow: str,
    input_data: Any,
    tags: tuple[str, ...],
    watched: bool,
    as_json: bool,
) -> None:
    """Start a run of WORKFLOW.

    With --watch the exit code is 0 if the run completed, 1 if it failed, 3 if it was cancelled.
    With --json the output is one object per line, the run document last.
    """
    execution_id: str = client.run(workflow, input_data, tags=tags)["execution_id"]
    sys.exit(report_started(client, execution_id, watched=watched, as_json=as_json))


def report_started(client: Client, execution_id: str, *, watched: bool, as_json: bool) -> int:
    """Print a started run, or follow it if ``watched``; return the exit code."""
    if watched:
        if not as_json:
            click.echo(execution_id)
        return follow(client, execution_id, as_json=as_json)
    if as_json:
        print_json(client.get(execution_id))
        return 0
    click.echo(execution_id)
    click.echo(f"{client.url}/#/runs/{execution_id}", err=True)
    click.echo(f"watch it with: tailrace watch {execution_id}", err=True)
    return 0
