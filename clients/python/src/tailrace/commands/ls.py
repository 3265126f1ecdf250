"""``tailrace ls``: list runs."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from tailrace.client import Client
from tailrace.commands.client_command import (
    client_command,
    cursor_option,
    json_option,
    limit_option,
    moment_of,
    print_json,
)
from tailrace.commands.completion import complete_runs, complete_tags, complete_workflows
from tailrace.documents import Document
from tailrace.view.board import printable, seconds_text
from tailrace.view.model import RUN_STATUSES, seconds_of, signal_text

_COLOURS: Final = {
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "paused": "yellow",
}


@click.command
@click.argument("workflow", required=False, shell_complete=complete_workflows)
@click.option("--status", type=click.Choice(RUN_STATUSES), help="Only runs in this status.")
@click.option("--tag", shell_complete=complete_tags, help="Only runs with this tag.")
@click.option("--parent", shell_complete=complete_runs, help="Only child runs of this run.")
@click.option("--since", metavar="TIME", help="Only runs that began since: 2h, 7d, or a time.")
@click.option("--until", metavar="TIME", help="Only runs that began before: 2h, 7d, or a time.")
@click.option("--text", help="Only runs whose id, or whose workflow's id, contains this text.")
@limit_option(20)
@cursor_option
@click.option("--waiting", is_flag=True, help="List steps that wait for a signal.")
@json_option
@client_command
def ls(  # noqa: PLR0913, PLR0917 - one parameter per option
    client: Client,
    workflow: str | None,
    status: str | None,
    tag: str | None,
    parent: str | None,
    since: str | None,
    until: str | None,
    text: str | None,
    limit: int,
    cursor: str | None,
    waiting: bool,
    as_json: bool,
) -> None:
    """List runs of WORKFLOW, or of all workflows, newest first.

    Each line shows the execution, its status, start and duration. With --waiting it shows the
    execution, the step, the beginning of the wait and the awaited signal.

    A TIME is an age, such as 30m, 2h or 7d, or an RFC 3339 time such as 2026-01-15T10:30:00Z.
    """
    if waiting and (workflow or status or tag or parent or since or until or text):
        raise click.UsageError("--waiting lists the steps of all runs: leave the filters out")
    page: Document
    if waiting:
        page = client.waiting(limit=limit, cursor=cursor)
    else:
        page = client.list(
            workflow,
            status=status,
            tag=tag,
            parent=parent,
            created_after=moment_of(since),
            created_before=moment_of(until),
            text=text,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        print_json(page)
        return
    now = time.time()
    for found in page["waiting" if waiting else "runs"]:
        click.echo(_waiting_line(found, now) if waiting else _line(found, now))
    if page.get("cursor"):
        click.echo(f"more with --cursor {page['cursor']}", err=True)


def _line(summary: Mapping[str, Any], now: float) -> str:
    created = seconds_of(summary["created_at"]) or now
    ended = seconds_of(summary["finished_at"]) or now
    status = summary["status"]
    return "  ".join(
        (
            summary["execution_id"],
            click.style(f"{status:<9}", fg=_COLOURS.get(status)),
            f"{seconds_text(max(now - created, 0.0)):>8} ago",
            f"{seconds_text(max(ended - created, 0.0)):>8}",
            # Last, because it may be long.
            summary["workflow_id"],
        )
    )


def _waiting_line(found: Mapping[str, Any], now: float) -> str:
    since = seconds_of(found["since"]) or now
    return "  ".join(
        (
            found["execution_id"],
            f"{found['node_id']:<16}",
            f"{seconds_text(max(now - since, 0.0)):>8} ago",
            printable(signal_text(found["reason"], found.get("triggers", ()))),
            found["workflow_id"],
        )
    )
