"""``tailrace rerun``: run ended runs again."""

import sys
from typing import Any, Literal

import click

from tailrace.client import Client
from tailrace.commands.client_command import (
    client_command,
    cursor_option,
    filter_options,
    json_option,
    limit_option,
    matching_of,
    print_bulk,
    print_json,
)
from tailrace.commands.completion import complete_runs
from tailrace.commands.json_input import JsonInput
from tailrace.commands.run import report_started


@click.command
@click.argument("execution", required=False, shell_complete=complete_runs)
@click.option("--from", "from_node", metavar="NODE", help="Run only NODE and its dependants again.")
@click.option("--failed", is_flag=True, help="Run only what has not succeeded, and its dependants.")
@click.option("--latest", is_flag=True, help="Run the newest version of the workflow.")
@click.option("--version", type=click.IntRange(min=1), help="Run this version of the workflow.")
@click.option("--input", "input_data", type=JsonInput(), help="Run with another input.")
@click.option("--watch", "watched", is_flag=True, help="Follow the new run until it ends.")
@filter_options(["failed", "cancelled", "completed"])
@click.option("--dry-run", is_flag=True, help="Only list the runs that would be run again.")
@limit_option(100)
@cursor_option
@json_option
@client_command
def rerun(  # noqa: PLR0913, PLR0917 - one parameter per option
    client: Client,
    execution: str | None,
    workflow_id: str | None,
    status: str | None,
    tag: str | None,
    since: str | None,
    from_node: str | None,
    failed: bool,
    latest: bool,
    version: int | None,
    input_data: Any,
    watched: bool,
    dry_run: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:
    """Run EXECUTION again, or all runs that match the options.

    Without options the new run has the same version and input, and keeps nothing. With --from it
    keeps the succeeded steps, except NODE and the nodes that depend on it; NODE may be an item of a
    map, such as 'pages[3]'. With --failed it keeps all that has succeeded. With --latest, a fixed
    definition takes up a failed run: nodes that it changes run again.

    Without EXECUTION, --workflow, --status, --tag or --since say which runs; --status is failed
    by default. Exit codes and --json are those of `tailrace run`.
    """
    matching = matching_of(workflow_id, status, tag, since)
    if latest and version is not None:
        raise click.UsageError("--latest and --version exclude each other")
    wanted: int | Literal["latest"] | None = "latest" if latest else version
    if execution is not None:
        if matching or dry_run:
            raise click.UsageError("EXECUTION is one run: leave out the options of many")
        new = client.rerun(
            execution, from_node, failed=failed, version=wanted, input_data=input_data
        )
        sys.exit(report_started(client, new["execution_id"], watched=watched, as_json=as_json))
    if not matching:
        raise click.UsageError("say which runs: EXECUTION, --workflow, --status, --tag or --since")
    if from_node is not None or input_data is not None or watched:
        raise click.UsageError("--from, --input and --watch need EXECUTION")
    answer = client.rerun_all(
        matching, failed=failed, version=wanted, dry_run=dry_run, limit=limit, cursor=cursor
    )
    if as_json:
        print_json(answer)
    else:
        sys.exit(print_bulk(answer, "run again"))
