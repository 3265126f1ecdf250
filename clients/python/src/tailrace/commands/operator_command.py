"""Commands for operators, which run beside NATS in a process of ``tailrace_shared``."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

from tailrace.errors import TailraceError
from tailrace.local.embedded_nats import token_file, url_file

_MODULE: Final = "tailrace_shared"
_DATA_DIR: Final = Path(".tailrace")


def run_operator_command(*arguments: str) -> NoReturn:
    """Run a command of ``tailrace_shared.admin`` and end with its exit code.

    The client itself speaks HTTP only. These commands talk to NATS at ``NATS_URL``, or to that of
    ``tailrace up`` in this folder if no setting names another.

    Raises:
        TailraceError: the services are not installed here.
    """
    if find_spec(_MODULE) is None:
        raise TailraceError(
            "this command needs Tailrace's services: install the extra `server` of tailrace"
        )
    command = [sys.executable, "-m", f"{_MODULE}.admin", *arguments]
    environment = {**os.environ, **local_nats(os.environ)}
    ended = subprocess.run(command, check=False, env=environment)  # noqa: S603 - our own module
    sys.exit(ended.returncode)


def local_nats(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings for the NATS of ``tailrace up``, unless the environment names one.

    Raises:
        TailraceError: the file with its URL is not text.
    """
    if any(name == "NATS_URL" or name.startswith("TAILRACE_NATS_") for name in environment):
        return {}
    try:
        url = url_file(_DATA_DIR).read_text("utf-8").strip()
    except OSError:
        return {}
    except UnicodeDecodeError:
        raise TailraceError(f"cannot read {url_file(_DATA_DIR)}: not UTF-8 text") from None
    return {"NATS_URL": url, "TAILRACE_NATS_TOKEN_FILE": str(token_file(_DATA_DIR))}
