"""Definitions checked by the API, with every problem of every file."""

from collections.abc import Sequence

import click

from tailrace.client import Client
from tailrace.definition_files import DefinitionFile
from tailrace.errors import Problem, RefusedError

# What the API answers when the definition is at fault, not the caller or the server.
_AT_FAULT = frozenset({400, 413, 422})


def problems_of(client: Client, file: DefinitionFile) -> tuple[Problem, ...]:
    """Return what is wrong with a definition; nothing if it is valid."""
    try:
        client.validate(file.definition)
    except RefusedError as error:
        if error.status not in _AT_FAULT:
            raise
        return error.problems or (Problem("", error.detail or error.title),)
    return ()


def report(files: Sequence[tuple[DefinitionFile, tuple[Problem, ...]]]) -> None:
    """Write one line on stderr for each problem: file, place, sentence."""
    for file, problems in files:
        for problem in problems:
            click.echo(f"{file.path}: {problem}", err=True)
