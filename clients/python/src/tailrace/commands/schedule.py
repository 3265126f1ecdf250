"""``tailrace schedule``: manage schedules."""

from collections.abc import Mapping
from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.client_command import (
    client_command,
    cursor_option,
    json_option,
    limit_option,
    print_json,
)
from tailrace.commands.json_input import JsonInput


@click.group
def schedule() -> None:
    """Start runs by cron lines or at intervals."""


@schedule.command
@limit_option(50)
@cursor_option
@json_option
@client_command
def ls(client: Client, limit: int, cursor: str | None, as_json: bool) -> None:
    """List schedules.

    Each line shows the schedule, its workflow, its cron line and the next start.
    """
    page = client.schedules(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    for found in page["schedules"]:
        click.echo(_line(found))
    if page.get("cursor"):
        click.echo(f"more with --cursor {page['cursor']}", err=True)


@schedule.command
@click.argument("workflow")
@click.option(
    "--cron",
    required=True,
    help="Six fields (seconds first), '@every 5m' or a name like '@hourly'.",
)
@click.option("--time-zone", help="IANA time zone of a cron line.  [default: UTC]")
@click.option("--input", "input_data", type=JsonInput(), help="The runs' input. [default: {}]")
@click.option("--id", "schedule_id", help="ID of the schedule; an existing one is replaced.")
@json_option
@client_command
def add(
    client: Client,
    workflow: str,
    cron: str,
    time_zone: str | None,
    input_data: Any,
    schedule_id: str | None,
    as_json: bool,
) -> None:
    """Schedule runs of WORKFLOW."""
    added = client.schedule(
        workflow, cron, input_data, time_zone=time_zone, schedule_id=schedule_id
    )
    if as_json:
        print_json(added)
    else:
        click.echo(_line(added))


@schedule.command
@click.argument("schedules", metavar="ID...", nargs=-1, required=True)
@json_option
@client_command
def rm(client: Client, schedules: tuple[str, ...], as_json: bool) -> None:
    """Delete schedules; their runs continue."""
    for schedule_id in schedules:
        client.unschedule(schedule_id)
    if as_json:
        print_json({"removed": schedules})


def _line(found: Mapping[str, Any]) -> str:
    zone = f" {found['time_zone']}" if found["time_zone"] else ""
    following = f"  next {found['next_at']}" if found["next_at"] else ""
    return f"{found['id']}  {found['workflow_id']}  {found['cron']}{zone}{following}"
