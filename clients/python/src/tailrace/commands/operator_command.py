"""Commands for operators, which run beside NATS in a process of ``tailrace_shared``."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Final, NoReturn

from tailrace.errors import TailraceError

_MODULE: Final = "tailrace_shared"


def run_operator_command(*arguments: str) -> NoReturn:
    """Run a command of ``tailrace_shared.admin`` and end with its exit code.

    The client itself speaks HTTP only. These commands talk to NATS at ``NATS_URL``.

    Raises:
        TailraceError: the services are not installed here.
    """
    if find_spec(_MODULE) is None:
        raise TailraceError(
            "this command needs Tailrace's services: install the extra `server` of tailrace"
        )
    command = [sys.executable, "-m", f"{_MODULE}.admin", *arguments]
    ended = subprocess.run(command, check=False)  # noqa: S603 - our own module
    sys.exit(ended.returncode)
