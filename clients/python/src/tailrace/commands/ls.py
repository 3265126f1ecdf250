"""``tailrace ls``: list runs."""

import time
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tailrace.client import Client
from tailrace.commands.session import client_command, json_option, print_json
from tailrace.view.board import RUN_STYLES, seconds_text
from tailrace.view.follow import document_view

STATUSES = list(RUN_STYLES)


@click.command
@click.argument("workflow", required=False)
@click.option("--status", type=click.Choice(STATUSES), help="Only runs in this status.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many at most."
)
@json_option
@client_command
def ls(client: Client, workflow: str | None, status: str | None, limit: int, as_json: bool) -> None:
    """List runs, newest first: of WORKFLOW, or of all workflows."""
    page = client.list(workflow, status=status, limit=limit)
    if as_json:
        print_json(page)
        return
    Console().print(_table(page["runs"], time.time()))


def _table(documents: list[Mapping[str, Any]], now: float) -> Table:
    table = Table("execution", "workflow", "status", "progress", "started", "took", box=None)
    for document in documents:
        run = document_view(document)
        table.add_row(
            Text(run.execution_id, no_wrap=True),
            run.workflow,
            Text(run.status, style=RUN_STYLES.get(run.status, "")),
            f"{document['progress']:.0f}%",
            document["created_at"],
            seconds_text(run.elapsed(now)),
        )
    return table
