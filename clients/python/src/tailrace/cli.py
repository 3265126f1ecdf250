"""The ``tailrace`` command: its groups of options, and how errors end it."""

import importlib
import re
import sys
from typing import Any, Final, NoReturn

import click

from tailrace.errors import TailraceError

# Loaded when called: `tailrace up` should not wait for the imports of `tailrace watch`.
COMMANDS: Final = (
    *("up", "validate", "apply", "import", "run", "watch", "ls", "show"),
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
        "bench",
    ),
)

# A service's own line, passed on by `tailrace up`, names its sender already.
_NAMED: Final = re.compile(r"tailrace[-_][a-z]+: ")


class Commands(click.Group):
    """A group whose commands are modules of ``tailrace.commands``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which one meets them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        name = f"{cmd_name}_" if cmd_name == "import" else cmd_name
        module = importlib.import_module(f"tailrace.commands.{name}")
        command: click.Command = getattr(module, name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; an error of ours is a line on stderr, not a traceback."""
        try:
            return super().invoke(ctx)
        except TailraceError as error:
            fail(error)


def fail(error: TailraceError) -> NoReturn:
    """End the command with the error's sentence and exit code."""
    text = str(error)
    click.echo(text if _NAMED.match(text) else f"tailrace: {text}", err=True)
    sys.exit(error.exit_code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tailrace")
def cli() -> None:
    """Run workflows and stream every step.

    Client commands talk to the API at TAILRACE_URL with TAILRACE_TOKEN, about
    TAILRACE_ORGANIZATION.
    """
