"""``tailrace completion``: print the completion script of a shell; and what it completes."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from tailrace.client import Client
from tailrace.errors import TailraceError
from tailrace.profiles import profile_names

_VARIABLE: Final = "_TAILRACE_COMPLETE"
_TIMEOUT_S: Final = 2.0
_MAX_RUNS: Final = 50
_MAX_OTHERS: Final = 200


@click.command
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    For bash: `eval "$(tailrace completion bash)"` in ~/.bashrc. It completes commands, options and
    the ids of workflows, runs and schedules.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "tailrace", _VARIABLE).source())


def complete_workflows(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the ids of workflows that begin with a text."""

    def found(client: Client) -> Iterator[CompletionItem]:
        for each in client.workflows(limit=_MAX_OTHERS).workflows:
            yield CompletionItem(each.workflow_id, help=each.name)

    return _beginning(incomplete, context, found)


def complete_runs(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the ids of the newest runs that begin with a text."""

    def found(client: Client) -> Iterator[CompletionItem]:
        for run in client.list(limit=_MAX_RUNS).runs:
            yield CompletionItem(run.execution_id, help=f"{run.workflow_id}, {run.status}")

    return _beginning(incomplete, context, found)


def complete_tags(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the tags of the newest runs that begin with a text."""

    def found(client: Client) -> Iterator[CompletionItem]:
        runs = client.list(limit=_MAX_RUNS).runs
        for tag in dict.fromkeys(tag for run in runs for tag in run.get("tags", ())):
            yield CompletionItem(tag)

    return _beginning(incomplete, context, found)


def complete_schedules(
    context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the ids of schedules that begin with a text."""

    def found(client: Client) -> Iterator[CompletionItem]:
        for each in client.schedules(limit=_MAX_OTHERS).schedules:
            yield CompletionItem(each.id, help=f"{each.workflow_id}, {each.cron}")

    return _beginning(incomplete, context, found)


def complete_profiles(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of profiles that begin with a text."""
    with suppress(TailraceError):
        return [CompletionItem(name) for name in profile_names() if name.startswith(incomplete)]
    return []


def _beginning(
    incomplete: str, context: click.Context, found: Callable[[Client], Iterator[CompletionItem]]
) -> list[CompletionItem]:
    options = context.params
    # A shell cannot show why there are no suggestions.
    with (
        suppress(TailraceError, OSError),
        Client(
            options.get("url"),
            options.get("token") or "",
            organization=options.get("organization") or "",
            profile=options.get("profile"),
            timeout=_TIMEOUT_S,
        ) as client,
    ):
        return [item for item in found(client) if str(item.value).startswith(incomplete)]
    return []
