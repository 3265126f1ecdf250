"""``tailrace cancel``: stop runs."""

import sys

import click

from tailrace.client import Client
from tailrace.commands.client_command import (
    client_command,
    filter_options,
    json_option,
    limit_option,
    matching_of,
    print_bulk,
    print_json,
)
from tailrace.commands.completion import complete_runs


@click.command
@click.argument("execution", required=False, shell_complete=complete_runs)
@click.option("--reason", help="Reason; recorded in the run's log.")
@filter_options(["queued", "running", "paused"])
@click.option("--dry-run", is_flag=True, help="Only list the runs that would be cancelled.")
@limit_option(100)
@json_option
@client_command
def cancel(  # noqa: PLR0913, PLR0917 - one parameter per option
    client: Client,
    execution: str | None,
    workflow_id: str | None,
    status: str | None,
    tag: str | None,
    since: str | None,
    reason: str | None,
    dry_run: bool,
    limit: int,
    as_json: bool,
) -> None:
    """Cancel EXECUTION, or all runs that match the options and have not ended."""
    matching = matching_of(workflow_id, status, tag, since)
    if (execution is None) == (not matching):
        raise click.UsageError("say which runs: EXECUTION, --workflow, --status, --tag or --since")
    if execution is None:
        answer = client.cancel_all(matching, reason, dry_run=dry_run, limit=limit)
        if as_json:
            print_json(answer)
            return
        sys.exit(print_bulk(answer, "cancelled"))
    if dry_run:
        raise click.UsageError("--dry-run is for the runs that match options")
    accepted = client.cancel(execution, reason)
    if as_json:
        print_json(accepted)
    else:
        click.echo(f"{execution} will be cancelled")
