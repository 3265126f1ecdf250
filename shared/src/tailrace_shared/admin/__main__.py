"""The commands behind ``tailrace topology`` and ``tailrace doctor``."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from tailrace_shared.admin import doctor, permissions, topology
from tailrace_shared.errors import JetStreamError, StartupError, UnavailableError
from tailrace_shared.nats.topology import TOPOLOGY_VERSION
from tailrace_shared.process.settings_reader import read_settings
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import CommonSettings

Command = Callable[[CommonSettings, argparse.Namespace], Coroutine[Any, Any, int]]


def main(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> int:
    """Run a command; return its exit code: 0, 1 (it found something), or 2 (it could not run)."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        settings = read_settings(CommonSettings, environment)
        return asyncio.run(command(settings, options))
    except (StartupError, UnavailableError, JetStreamError) as error:
        # The error may quote a NATS URL with a password.
        sys.stderr.write(f"tailrace: {redact_credentials(str(error))}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tailrace", description=__doc__)
    commands = parser.add_subparsers(required=True)
    text = "compare the streams and buckets in NATS with what this release describes"
    streams = commands.add_parser("topology", help=text, description=text)
    actions = streams.add_subparsers(required=True)
    for name, command, text in (
        ("plan", topology.plan_command, "print what apply would change; exit 1 if anything"),
        ("apply", topology.apply_command, "create and update streams and buckets"),
    ):
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument(
            "--version",
            type=int,
            choices=range(1, TOPOLOGY_VERSION + 1),
            default=TOPOLOGY_VERSION,
            help="topology version; 1 is that of Tailrace 0.2 (default: %(default)s)",
        )
        sub.set_defaults(command=command)
    text = "print the least permissions in NATS of the services, as variables of its configuration"
    sub = actions.add_parser("permissions", help=text, description=text)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=permissions.command)
    text = "check NATS, the topology, the services and the work in progress; exit 1 on a failure"
    checks = commands.add_parser("doctor", help=text, description=text)
    checks.add_argument("--json", action="store_true", help="print one JSON object")
    checks.set_defaults(command=doctor.command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
