"""``tailrace dead``: manage dead letters."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from tailrace.client import Client
from tailrace.commands.client_command import client_command, json_option, limit_option, print_json
from tailrace.commands.suggestions import SuggestingGroup

_queue_option = click.option("--queue", help="Only dead letters of this queue.")
_letters_argument = click.argument("letters", metavar="[ID]...", nargs=-1, type=int)


@click.group(cls=SuggestingGroup)
def dead() -> None:
    """List, show, replay and purge dead letters: jobs that cannot be processed."""


@dead.command
@_queue_option
@limit_option(50)
@click.option("--after", type=int, help="Only greater IDs.")
@json_option
@client_command
def ls(client: Client, queue: str | None, limit: int, after: int | None, as_json: bool) -> None:
    """List dead letters, oldest first.

    Each line shows the ID, the time, the queue, the actor and the reason.
    """
    page = client.dead_letters(queue, limit=limit, after=after)
    if as_json:
        print_json(page)
        return
    for letter in page["dead_letters"]:
        click.echo(_line(letter))
    if page.get("after"):
        click.echo(f"more with --after {page['after']}", err=True)


@dead.command
@click.argument("letter", metavar="ID", type=int)
@json_option
@client_command
def show(client: Client, letter: int, as_json: bool) -> None:
    """Show a dead letter with its reason, message and traceback."""
    document = client.dead_letter(letter)
    if as_json:
        print_json(document)
        return
    click.echo(_line(document))
    click.echo(f"deliveries  {document['deliveries']}")
    for name, value in document["headers"].items():
        click.echo(f"header      {_printable(name)}: {_printable(value)}")
    body = document["body_base64"] if document["message"] is None else document["message"]
    click.echo(f"message     {_printable(str(body))}")
    for line in document["traceback"].splitlines():
        click.echo(_printable(line))


@dead.command
@_letters_argument
@_queue_option
@json_option
@client_command
def replay(client: Client, letters: tuple[int, ...], queue: str | None, as_json: bool) -> None:
    """Put dead letters back on their queues: by ID, by --queue, or all."""
    _either(letters, queue)
    count = _each(client.replay, letters) if letters else client.replay_all(queue)
    _report("replayed", count, as_json)


@dead.command
@_letters_argument
@_queue_option
@click.option("--yes", is_flag=True, help="Delete all dead letters.")
@json_option
@client_command
def purge(
    client: Client, letters: tuple[int, ...], queue: str | None, yes: bool, as_json: bool
) -> None:
    """Delete dead letters: by ID, by --queue, or all with --yes."""
    _either(letters, queue)
    if not (letters or queue or yes):
        raise click.UsageError(
            "this would delete all dead letters: add --yes, or give IDs or a --queue"
        )
    count = _each(client.purge, letters) if letters else client.purge_all(queue)
    _report("purged", count, as_json)


def _either(letters: tuple[int, ...], queue: str | None) -> None:
    if letters and queue:
        raise click.UsageError("give either IDs or a --queue")


def _each(action: Callable[[int], int], letters: tuple[int, ...]) -> int:
    return sum(map(action, letters))


def _report(what: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({what: count})
    else:
        click.echo(f"{what} {count}")


def _line(letter: Mapping[str, Any]) -> str:
    error = letter["error"].partition("\n")[0]
    why = f"{letter['reason']}: {error}" if error else letter["reason"]
    actor = letter["actor"] or "?"
    return _printable(f"{letter['id']}  {letter['died_at']}  {letter['queue']}  {actor}  {why}")


def _printable(text: str) -> str:
    # Messages are untrusted, and terminals interpret control characters.
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
