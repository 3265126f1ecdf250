"""``tailrace schedule``: manage schedules."""

import sys
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
from tailrace.commands.completion import complete_schedules, complete_workflows
from tailrace.commands.json_input import JsonInput
from tailrace.commands.run import report_started
from tailrace.commands.suggestions import SuggestingGroup


@click.group(cls=SuggestingGroup)
def schedule() -> None:
    """Start runs by cron lines or at intervals."""


@schedule.command
@limit_option(50)
@cursor_option
@json_option
@client_command
def ls(client: Client, limit: int, cursor: str | None, as_json: bool) -> None:
    """List schedules.

    Each line shows the schedule, its workflow, its cron line, what happens to overlapping runs, the
    next start, and the last one with its run.
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
@click.argument("workflow", shell_complete=complete_workflows)
@click.option(
    "--cron",
    required=True,
    help="Five fields, or six (seconds first), '@every 5m' or a name like '@hourly'.",
)
@click.option("--time-zone", help="IANA time zone of a cron line.  [default: UTC]")
@click.option("--input", "input_data", type=JsonInput(), help="The runs' input. [default: {}]")
@click.option(
    "--overlap",
    type=click.Choice(["queue", "skip", "cancel"]),
    help="What a firing does while a run of the schedule is active: waits for it, is skipped, or "
    "cancels it.  [default: both run]",
)
@click.option("--id", "schedule_id", help="ID of the schedule; an existing one is replaced.")
@json_option
@client_command
def add(  # noqa: PLR0913, PLR0917 - one parameter per option
    client: Client,
    workflow: str,
    cron: str,
    time_zone: str | None,
    input_data: Any,
    overlap: str | None,
    schedule_id: str | None,
    as_json: bool,
) -> None:
    """Schedule runs of WORKFLOW."""
    added = client.schedule(
        workflow,
        cron,
        input_data,
        time_zone=time_zone,
        overlap=overlap,
        schedule_id=schedule_id,
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


@schedule.command
@click.argument("schedule_id", metavar="ID", shell_complete=complete_schedules)
@json_option
@client_command
def pause(client: Client, schedule_id: str, as_json: bool) -> None:
    """Let a schedule fire no more until it is resumed."""
    _print(client.pause_schedule(schedule_id), as_json)


@schedule.command
@click.argument("schedule_id", metavar="ID", shell_complete=complete_schedules)
@json_option
@client_command
def resume(client: Client, schedule_id: str, as_json: bool) -> None:
    """Let a paused schedule fire again. What it has missed is not made up; see backfill."""
    _print(client.resume_schedule(schedule_id), as_json)


@schedule.command
@click.argument("schedule_id", metavar="ID", shell_complete=complete_schedules)
@click.option("--watch", "watched", is_flag=True, help="Follow the run until it ends.")
@json_option
@client_command
def run(client: Client, schedule_id: str, watched: bool, as_json: bool) -> None:
    """Start a run of a schedule now."""
    execution: str = client.run_schedule(schedule_id)["execution_id"]
    sys.exit(report_started(client, execution, watched=watched, as_json=as_json))


@schedule.command
@click.argument("schedule_id", metavar="ID", shell_complete=complete_schedules)
@click.option("--from", "start", required=True, help="Beginning of the range (RFC 3339).")
@click.option("--to", "end", required=True, help="End of the range; a firing there is left out.")
@click.option("--dry-run", is_flag=True, help="Only list the firings.")
@json_option
@client_command
def backfill(
    client: Client, schedule_id: str, start: str, end: str, dry_run: bool, as_json: bool
) -> None:
    """Start the runs that a schedule would have started in a range of time, each one once."""
    answer = client.backfill(schedule_id, start, end, dry_run=dry_run)
    if as_json:
        print_json(answer)
        return
    for firing in answer["firings"]:
        run_id = firing["error"] or firing["execution_id"]
        click.echo("  ".join(filter(None, (firing["scheduled_at"], run_id))))
    sys.exit(any(firing["error"] for firing in answer["firings"]))


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(_line(found))


def _line(found: Mapping[str, Any]) -> str:
    zone = f" {found['time_zone']}" if found["time_zone"] else ""
    parts = [found["id"], found["workflow_id"], f"{found['cron']}{zone}"]
    if overlap := found.get("overlap"):
        parts.append(f"overlap {overlap}")
    if found.get("paused"):
        parts.append("paused")
    elif found["next_at"]:
        parts.append(f"next {found['next_at']}")
    if last := found.get("last_at"):
        parts.append(f"last {last} {found.get('last_execution_id') or 'skipped'}")
    return "  ".join(parts)
