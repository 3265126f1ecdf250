"""``tailrace validate``: check workflow definitions without installing them."""

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
def validate(client: Client, files: tuple[Path, ...], as_json: bool) -> None:
    """Check workflow definitions: YAML or JSON, files or folders.

    Lists every problem with its place. The exit code is 1 if there is any.
    """
    checked = [(file, problems_of(client, file)) for file in read_definitions(files)]
    if as_json:
        print_json(
            [
                {
                    "file": str(file.path),
                    "workflow_id": file.workflow_id,
                    "valid": not problems,
                    "errors": [problem._asdict() for problem in problems],
                }
                for file, problems in checked
            ]
        )
    else:
        report(checked)
        for file, problems in checked:
            if not problems:
                click.echo(f"{file.path}: valid")
    if any(problems for _, problems in checked):
        sys.exit(1)
