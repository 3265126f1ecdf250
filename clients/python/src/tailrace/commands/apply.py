"""``tailrace apply``: install workflow definitions."""

import sys
from pathlib import Path

import click

from tailrace.client import Client
from tailrace.commands.checking import problems_of, report
from tailrace.commands.client_command import client_command, json_option, print_json
from tailrace.definition_files import read_definitions


@click.command
@click.argument("files", metavar="F...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@client_command
def apply(client: Client, files: tuple[Path, ...], as_json: bool) -> None:
    """Install workflow definitions: YAML, JSON or Python, files or folders.

    All are checked first; if one is invalid, nothing is installed.
    """
    definitions = read_definitions(files)
    checked = [(file, problems_of(client, file)) for file in definitions]
    if any(problems for _, problems in checked):
        report(checked)
        sys.exit(1)
    answers = [client.apply(file.definition) for file in definitions]
    installed = [{key: answer[key] for key in ("workflow_id", "version")} for answer in answers]
    if as_json:
        print_json(installed)
        return
    for answer in installed:
        click.echo(f"{answer['workflow_id']} version {answer['version']}")
