"""Check definitions in a process of the services that are installed here, without a server.

The client itself has no knowledge of definitions, so that its environment needs no services.
"""

import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

import msgspec

from tailrace.errors import Problem, TailraceError

_MODULE: Final = "tailrace_worker"


def is_installed() -> bool:
    """Return whether definitions can be checked without a server."""
    return find_spec(_MODULE) is not None


def problems_of_all(documents: Sequence[Any]) -> list[tuple[Problem, ...]]:
    """Return the problems of each definition.

    Raises:
        TailraceError: the services are not installed here, or the modules of ``TAILRACE_NODES``
            cannot be imported.
    """
    answer = run_offline("validate", msgspec.json.encode(documents))
    return [
        tuple(Problem(problem["pointer"], problem["detail"]) for problem in problems)
        for problems in answer
    ]


def run_offline(command: str, standard_input: bytes = b"") -> Any:
    """Run a command of ``tailrace_worker.offline``; return its answer.

    Raises:
        TailraceError: as :func:`problems_of_all`.
    """
    if not is_installed():
        raise TailraceError(
            "this needs Tailrace's services: install the extra `server` of tailrace, or start them "
            "and set TAILRACE_URL"
        )
    ended = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", f"{_MODULE}.offline", command],
        input=standard_input,
        capture_output=True,
        check=False,
    )
    if ended.returncode:
        raise TailraceError(
            ended.stderr.decode(errors="replace").strip().removeprefix("tailrace: ")
        )
    return msgspec.json.decode(ended.stdout)
