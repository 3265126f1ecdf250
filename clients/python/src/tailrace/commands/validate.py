"""``tailrace validate``: check workflow definitions without installing them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.checking import problems_of_all, report
from tailrace.commands.client_command import connection_options, json_option, print_json
from tailrace.definition_files import DefinitionFile, read_definitions
from tailrace.errors import Problem


@click.command
@click.argument("files", metavar="F...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--offline", is_flag=True, help="Do not ask the API, even if it can be reached.")
@json_option
@connection_options
def validate(
    connect: Callable[[], Client], files: tuple[Path, ...], offline: bool, as_json: bool
) -> None:
    """Check workflow definitions: YAML, JSON or Python, files or folders, or - for standard input.

    Lists every problem with its line, its column and its JSON pointer. The exit code is 1 if there
    is any. Without a server the node types are the shipped ones, those of installed packages, and
    those of TAILRACE_NODES.
    """
    definitions = read_definitions(files)
    # Offline, an unusable URL or profile does not matter.
    problems_of_each = problems_of_all(None if offline else connect, definitions)
    checked = list(zip(definitions, problems_of_each, strict=True))
    if as_json:
        print_json(
            [
                {
                    "file": str(file.path),
                    "workflow_id": file.workflow_id,
                    "valid": not problems,
                    "errors": [_document(file, problem) for problem in problems],
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


def _document(file: DefinitionFile, problem: Problem) -> dict[str, Any]:
    place = file.place(problem.pointer)
    return {**problem._asdict(), **(place._asdict() if place else {})}
