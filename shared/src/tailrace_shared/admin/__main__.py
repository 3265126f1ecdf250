"""The commands behind ``tailrace topology``, ``doctor``, ``backup`` and ``restore``."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from tailrace_shared.admin import doctor, permissions, topology
from tailrace_shared.admin.backups import backup, restore
from tailrace_shared.errors import (
    JetStreamError,
    NatsUnreachableError,
    StartupError,
    UnavailableError,
)
from tailrace_shared.nats.topology import TOPOLOGY_VERSION
from tailrace_shared.process.settings_reader import read_settings
from tailrace_shared.redact.credentials import redact_credentials
from tailrace_shared.settings import CommonSettings

_ELSEWHERE: Final = (
    "(NATS_URL is not set; in Kubernetes: "
    "kubectl exec deploy/tailrace-api -- python3 -m tailrace_shared.admin …)"
)
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
        is_elsewhere = isinstance(error, NatsUnreachableError) and "NATS_URL" not in environment
        hint = f" {_ELSEWHERE}" if is_elsewhere else ""
        sys.stderr.write(f"tailrace: {redact_credentials(str(error))}{hint}\n")
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
    _add_backups(commands)
    return parser


def _add_backups(commands: Any) -> None:
    text = "write a backup of the streams and buckets to an encrypted file, while services run"
    saving = commands.add_parser("backup", help=text, description=text)
    saving.add_argument("path", help="the file, or a folder for a file named after the time")
    saving.add_argument(
        "--recipient",
        action="append",
        required=True,
        help="public key of a reader, as age-keygen prints it; may be repeated",
    )
    saving.add_argument(
        "--keep", type=int, default=0, help="delete all but so many of the newest in the folder"
    )
    saving.set_defaults(command=backup.command)
    text = "restore a backup; all services must be stopped"
    restoring = commands.add_parser("restore", help=text, description=text)
    restoring.add_argument("path", help="the file")
    restoring.add_argument("--identity-file", required=True, help="file with the secret key")
    restoring.add_argument(
        "--replace", action="store_true", help="delete the streams and buckets that exist"
    )
    restoring.add_argument(
        "--verify-only", action="store_true", help="read the whole file, and restore nothing"
    )
    restoring.add_argument(
        "--skip-sequences",
        type=int,
        default=restore.DEFAULT_SKIP,
        help="more than the commits since the backup; their ids are reset (default: %(default)s)",
    )
    restoring.set_defaults(command=restore.command)


if __name__ == "__main__":
    sys.exit(main())
