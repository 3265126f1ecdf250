"""``tailrace workflows``: list, show, compare and delete workflows."""

import difflib
import sys
from collections.abc import Mapping
from typing import Any, Final

import click
import yaml

from tailrace.client import Client
from tailrace.commands.client_command import (
    client_command,
    cursor_option,
    json_option,
    limit_option,
    print_json,
)
from tailrace.commands.completion import complete_workflows
from tailrace.commands.suggestions import SuggestingGroup

_COLOURS: Final[Mapping[str, str]] = {"+": "green", "-": "red", "@": "cyan"}
_MAX_VERSIONS: Final = 200


@click.group(cls=SuggestingGroup)
def workflows() -> None:
    """List, show, compare and delete workflows."""


@workflows.command("ls")
@limit_option(50)
@cursor_option
@json_option
@client_command
def list_workflows(client: Client, limit: int, cursor: str | None, as_json: bool) -> None:
    """List workflows by id, with their newest version."""
    page = client.workflows(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    for each in page["workflows"]:
        name = "" if each["name"] == each["workflow_id"] else f"  {each['name']}"
        click.echo(f"{each['workflow_id']}  version {each['version']}{name}")
    if page.get("cursor"):
        click.echo(f"more with --cursor {page['cursor']}", err=True)


@workflows.command
@click.argument("workflow", shell_complete=complete_workflows)
@click.option("--version", type=click.IntRange(min=1), help="The version. [default: the newest]")
@json_option
@client_command
def show(client: Client, workflow: str, version: int | None, as_json: bool) -> None:
    """Print the definition of WORKFLOW as YAML."""
    document = client.workflow(workflow, version)
    if as_json:
        print_json(document)
        return
    click.echo(_yaml(document.definition), nl=False)


@workflows.command
@click.argument("workflow", shell_complete=complete_workflows)
@limit_option(20)
@cursor_option
@json_option
@client_command
def versions(client: Client, workflow: str, limit: int, cursor: str | None, as_json: bool) -> None:
    """List the versions of WORKFLOW that are kept, newest first, with time and author."""
    page = client.versions(workflow, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    for each in page.versions:
        click.echo("  ".join(filter(None, (str(each.version), each.created_at, each.author))))
    if page.cursor:
        click.echo(f"more with --cursor {page.cursor}", err=True)


@workflows.command
@click.argument("workflow", shell_complete=complete_workflows)
@click.argument("old", type=click.IntRange(min=1), required=False)
@click.argument("new", type=click.IntRange(min=1), required=False)
@client_command
def diff(client: Client, workflow: str, old: int | None, new: int | None) -> None:
    """Show what a version of WORKFLOW changes: from OLD to NEW.

    By default these are the last two versions; with OLD only, OLD and the newest. The exit code is
    1 if they differ.
    """
    newest = client.workflow(workflow, new)
    before = old if old is not None else _version_before(client, workflow, newest.version)
    first, second = (
        _yaml(each.definition).splitlines(keepends=True)
        for each in (client.workflow(workflow, before), newest)
    )
    names = [f"{workflow} version {number}" for number in (before, newest.version)]
    lines = list(difflib.unified_diff(first, second, names[0], names[1]))
    for line in lines:
        click.secho(line, fg=_COLOURS.get(line[:1]), nl=False)
    sys.exit(bool(lines))


def _version_before(client: Client, workflow: str, version: int) -> int:
    """Return the version before another one.

    Raises:
        click.UsageError: it is the first one that is kept.
    """
    for each in client.versions(workflow, limit=_MAX_VERSIONS).versions:
        if each.version < version:
            return each.version
    raise click.UsageError(f"{workflow} has no version before {version}")


def _yaml(definition: Any) -> str:
    text: str = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=100)
    return text


@workflows.command
@click.argument("workflow", shell_complete=complete_workflows)
@client_command
def rm(client: Client, workflow: str) -> None:
    """Delete WORKFLOW and the schedules of its definition. Its runs continue."""
    client.delete_workflow(workflow)
    click.echo(f"{workflow} is deleted; its runs continue", err=True)
