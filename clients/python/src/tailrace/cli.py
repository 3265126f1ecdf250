"""The ``tailrace`` command group and its error handling."""

import errno
import importlib
import os
import re
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from tailrace.commands.suggestions import SuggestingGroup
from tailrace.errors import TailraceError
from tailrace.profiles import dotenv_of

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
        "completion",
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


class Commands(SuggestingGroup):
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

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; print a ``TailraceError`` as one line on stderr, without a traceback.

        So is an error of the system that no command expects, such as a full disk.
        """
        try:
            return super().invoke(ctx)
        except TailraceError as error:
            fail(error)
        except OSError as error:
            # Click ends quietly when the reader of a pipe has ended.
            if error.errno == errno.EPIPE:
                raise
            place = f"{error.filename}: " if error.filename else ""
            fail(TailraceError(f"{place}{error.strerror or error}"))
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
    TAILRACE_ORGANIZATION, from the environment, from .env in this folder, or from a profile
    (--profile). `tailrace up` reads .env as well. With NO_COLOR, nothing is coloured.
    """
    context = click.get_current_context()
    if os.environ.get("NO_COLOR"):
        context.color = False
    if context.invoked_subcommand == "up":
        for name, value in dotenv_of(Path.cwd()).items():
            os.environ.setdefault(name, value)
