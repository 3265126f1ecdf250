"""Options that several client commands share, and JSON output."""

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import click
import msgspec

from tailrace.client import Client
from tailrace.commands.completion import complete_profiles
from tailrace.profiles import DEFAULT_URL

_MAX_LIMIT: Final = 200
_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


def client_command(function: Callable[Concatenate[Client, P], R]) -> Callable[..., R]:
    """Add the options of a connection to a command, and call it with a client."""

    def wrapper(connect: Callable[[], Client], /, *args: P.args, **kwargs: P.kwargs) -> R:
        with connect() as client:
            return function(client, *args, **kwargs)

    # Click keeps the options of inner decorators in an attribute of the function.
    functools.update_wrapper(wrapper, function)
    return connection_options(wrapper)


def connection_options(
    function: Callable[Concatenate[Callable[[], Client], P], R],
) -> Callable[..., R]:
    """Add the options of a connection to a command, and call it with what opens a client."""

    @click.option(
        "--url",
        help=f"URL of the API.  [env var: TAILRACE_URL; default: {DEFAULT_URL}]",
    )
    @click.option("--token", default="", help="Bearer token.  [env var: TAILRACE_TOKEN]")
    @click.option(
        "--organization",
        default="",
        help="Organisation; required if the token has several.  [env var: TAILRACE_ORGANIZATION]",
    )
    @click.option(
        "--profile",
        shell_complete=complete_profiles,
        help="Profile of the configuration file.  [env var: TAILRACE_PROFILE]",
    )
    def wrapper(
        url: str | None,
        token: str,
        organization: str,
        profile: str | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        if url is not None and profile is not None:
            raise click.UsageError("--url and --profile exclude each other")
        if url is not None:
            # Both are the operator's choice for this command.
            token = token or os.environ.get("TAILRACE_TOKEN", "")
            organization = organization or os.environ.get("TAILRACE_ORGANIZATION", "")
        connect = functools.partial(Client, url, token, organization=organization, profile=profile)
        return function(connect, *args, **kwargs)

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


def filter_options(statuses: Sequence[str]) -> Callable[[F], F]:
    """Return the options of a command to many runs; see :func:`matching_of`."""
    options = [
        click.option("--workflow", "workflow_id", help="All runs of this workflow."),
        click.option("--status", type=click.Choice(statuses), help="All runs in this status."),
        click.option("--tag", help="All runs with this tag."),
        click.option(
            "--since", metavar="TIME", help="All runs that began since: 2h, 7d, or a time."
        ),
    ]
    return lambda function: functools.reduce(lambda f, option: option(f), options, function)


def matching_of(
    workflow_id: str | None, status: str | None, tag: str | None, since: str | None
) -> dict[str, str]:
    """Return the filter that the options give."""
    given = {
        "workflow_id": workflow_id,
        "status": status,
        "tag": tag,
        "created_after": moment_of(since),
    }
    return {name: value for name, value in given.items() if value is not None}


def moment_of(text: str | None) -> str | None:
    """Return the time that an option gives as an age, or as a time of RFC 3339.

    Raises:
        click.BadParameter: it is neither.
    """
    if text is None or _TIME.match(text):
        return text
    found = _AGE.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"{text!r} is no age such as 30m, 2h or 7d, and no time such as 2026-01-15T10:30:00Z"
        )
    moment = datetime.now(UTC) - timedelta(seconds=int(found[1]) * _UNIT_S[found[2]])
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def print_bulk(answer: Mapping[str, Any], done: str) -> int:
    """Print the answer to a command to many runs; return the exit code."""
    for row in answer["executions"]:
        text = row["error"] or row["rerun"] or ("would be " * answer["dry_run"] + done)
        click.echo(f"{row['execution_id']}  {row['status']:<9}  {row['workflow_id']}  {text}")
    refused = sum(row["error"] is not None for row in answer["executions"])
    count = len(answer["executions"]) - refused
    would = "would be " if answer["dry_run"] else ""
    click.echo(f"{count} runs {would}{done}, {refused} refused", err=True)
    if answer["cursor"]:
        click.echo(f"more with --cursor {answer['cursor']}", err=True)
    elif answer["more"]:
        click.echo("there are more: repeat the command", err=True)
    return 1 if refused else 0


def print_json(document: Any) -> None:
    """Print a document as JSON on one line."""
    click.echo(msgspec.json.encode(document))
