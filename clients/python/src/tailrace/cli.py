"""The ``tailrace`` command group and its error handling."""

import difflib
import importlib
import os
import re
import sys
from typing import Any, Final, NoReturn

import click

from tailrace.errors import TailraceError

# Commands are imported when called, so `tailrace up` does not import `tailrace watch`.
COMMANDS: Final = (
    *(
        "up",
        "validate",
        "apply",
        "import",
        "export",
        "schema",
        "nodes",
        "init",
        "run",
        "watch",
        "ls",
        "show",
        "logs",
        "workflows",
        "stats",
    ),
    *(
        "pause",
        "resume",
        "cancel",
        "rerun",
        "signal",
        "schedule",
        "dead",
        "topology",
        "doctor",
        "backup",
        "restore",
        "bench",
    ),
)

# Commands that share a module with another.
_MODULES: Final = {"restore": "backup"}

_INTERRUPTED: Final = 130

# A line of a service, forwarded by `tailrace up`, already begins with the service's name.
_NAMED: Final = re.compile(r"tailrace[-_][a-z]+: ")


class Commands(click.Group):
    """A group whose commands are modules of ``tailrace.commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a new user needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, or return None for an unknown name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if cmd_name == "import" else cmd_name
        module = importlib.import_module(f"tailrace.commands.{_MODULES.get(name, name)}")
        command: click.Command = getattr(module, name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the most similar command for one that does not exist."""
        name = args[0] if args else ""
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        if name and not name.startswith("-") and name not in COMMANDS and near:
            ctx.fail(f"No such command {name!r}, did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print a ``TailraceError`` as one line on stderr, without a traceback."""
        try:
            return super().invoke(ctx)
        except TailraceError as error:
            fail(error)
        except KeyboardInterrupt:
            sys.exit(_INTERRUPTED)


def fail(error: TailraceError) -> NoReturn:
    """Print the error's message and exit with its exit code."""
    text = str(error)
    click.echo(text if _NAMED.match(text) else f"tailrace: {text}", err=True)
    sys.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tailrace")
def cli() -> None:
    """Run workflows and stream every step.

    Client commands use the API at TAILRACE_URL with the token TAILRACE_TOKEN, for the organization
    TAILRACE_ORGANIZATION. With NO_COLOR, nothing is coloured.
    """
    if os.environ.get("NO_COLOR"):
        click.get_current_context().color = False
