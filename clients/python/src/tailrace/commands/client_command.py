"""Options that several client commands share, and JSON output."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click
import msgspec

from tailrace.client import DEFAULT_URL, Client

_MAX_LIMIT: Final = 200

P = ParamSpec("P")
R = TypeVar("R")


def client_command(function: Callable[Concatenate[Client, P], R]) -> Callable[..., R]:
    """Add ``--url``, ``--token`` and ``--organization`` to a command and call it with a client."""

    @click.option(
        "--url",
        envvar="TAILRACE_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="URL of the API.",
    )
    @click.option("--token", envvar="TAILRACE_TOKEN", default="", help="Bearer token.")
    @click.option(
        "--organization",
        envvar="TAILRACE_ORGANIZATION",
        default="",
        help="Organisation; required if the token has several.",
    )
    def wrapper(url: str, token: str, organization: str, *args: P.args, **kwargs: P.kwargs) -> R:
        with Client(url, token, organization=organization) as client:
            return function(client, *args, **kwargs)

    # Click keeps the options of inner decorators in an attribute of the function.
    functools.update_wrapper(wrapper, function)
    return wrapper


cursor_option = click.option("--cursor", help="Continue after the page with this cursor.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def limit_option(default: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return the option ``--limit`` of a command that lists a page."""
    return click.option(
        "--limit",
        type=click.IntRange(1, _MAX_LIMIT),
        default=default,
        show_default=True,
        help="Number of entries.",
    )


def print_json(document: Any) -> None:
    """Print a document as JSON on one line."""
    click.echo(msgspec.json.encode(document))
