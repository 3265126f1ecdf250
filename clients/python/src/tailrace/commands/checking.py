"""Check definitions with the API and report the problems of each file."""

from collections.abc import Callable, Sequence

import click

from tailrace.client import Client
from tailrace.definition_files import DefinitionFile, Place
from tailrace.errors import Problem, RefusedError, UnreachableError
from tailrace.local.offline import is_installed
from tailrace.local.offline import problems_of_all as problems_without_server

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


def problems_of_all(
    connect: Callable[[], Client] | None, files: Sequence[DefinitionFile]
) -> list[tuple[Problem, ...]]:
    """Return the problems of each definition, by the API or without it.

    Args:
        connect: opens a client of the API; None does not ask the API.
        files: the definitions. If the API cannot be reached, and the services are installed here,
            they are checked without it.
    """
    if connect is not None:
        with connect() as client:
            try:
                return [problems_of(client, file) for file in files]
            except UnreachableError:
                if not is_installed():
                    raise
    return problems_without_server([file.definition for file in files])


def report(files: Sequence[tuple[DefinitionFile, tuple[Problem, ...]]]) -> None:
    """Write one line per problem on stderr: file, place, message."""
    for file, problems in files:
        placed = [(file.place(problem.pointer), problem) for problem in problems]
        for place, problem in sorted(placed, key=lambda pair: pair[0] or Place(0, 0)):
            at = f":{place.line}:{place.column}" if place else ""
            click.echo(f"{file.path}{at}: {problem}", err=True)
