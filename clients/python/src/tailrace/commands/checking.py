"""Check definitions with the API and report the problems of each file."""

from collections.abc import Sequence

import click

from tailrace.client import Client
from tailrace.definition_files import DefinitionFile
from tailrace.errors import Problem, RefusedError

# Statuses for an invalid definition, as opposed to a refused caller or a server error.
_AT_FAULT = frozenset({400, 413, 422})


def problems_of(client: Client, file: DefinitionFile) -> tuple[Problem, ...]:
    """Return the problems of a definition; none if it is valid."""
    try:
        client.validate(file.definition)
    except RefusedError as error:
        if error.status not in _AT_FAULT:
            raise
        return error.problems or (Problem("", error.detail or error.title),)
    return ()


def report(files: Sequence[tuple[DefinitionFile, tuple[Problem, ...]]]) -> None:
    """Write one line per problem on stderr: file, place, message."""
    for file, problems in files:
        for problem in problems:
            click.echo(f"{file.path}: {problem}", err=True)
