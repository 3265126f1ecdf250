"""``tailrace workflows``: list, show and delete workflows."""

from typing import Any

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


@click.group
def workflows() -> None:
    """List, show and delete workflows."""


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
@click.argument("workflow")
@click.option("--version", type=click.IntRange(min=1), help="The version. [default: the newest]")
@json_option
@client_command
def show(client: Client, workflow: str, version: int | None, as_json: bool) -> None:
    """Print the definition of WORKFLOW as YAML."""
    document = client.workflow(workflow, version)
    if as_json:
        print_json(document)
        return
    definition: Any = document["definition"]
    click.echo(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True, width=100), nl=False)


@workflows.command
@click.argument("workflow")
@client_command
def rm(client: Client, workflow: str) -> None:
    """Delete WORKFLOW and the schedules of its definition. Its runs continue."""
    client.delete_workflow(workflow)
    click.echo(f"{workflow} is deleted; its runs continue", err=True)
