"""``tailrace nodes``: list the node types that can be used here."""

from typing import Any

import click

from tailrace.commands.client_command import json_option, print_json
from tailrace.local.offline import run_offline


@click.command
@click.argument("name", required=False)
@json_option
def nodes(name: str | None, as_json: bool) -> None:
    """List the node types that are installed here, with their parameters.

    These are the shipped ones, those of installed packages, and those of TAILRACE_NODES. With a
    NAME, show only that one.
    """
    known = [each for each in run_offline("nodes") if name in {None, each["name"]}]
    if as_json:
        print_json(known)
        return
    if not known:
        raise click.ClickException(f"there is no node type {name!r} here")
    for each in known:
        click.echo(each["name"] + ("  (actor)" if each.get("actor") else ""))
        if each.get("summary"):
            click.echo(f"    {each['summary']}")
        for key, parameter in each.get("parameters", {}).items():
            click.echo(f"    {key}: {_described(parameter)}")


def _described(parameter: dict[str, Any]) -> str:
    kind = parameter.get("kind", "any")
    words = [" | ".join(parameter.get("choices", ())) or kind]
    if parameter.get("required"):
        words.append("required")
    return ", ".join(words)
