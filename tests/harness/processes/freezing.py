"""Suspend a process."""

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

_STOPPED: Final = frozenset("TtZX")
_POLL_S: Final = 0.001


def freeze(pid: int) -> None:
    """Suspend a process with SIGSTOP; return when none of its threads runs.

    A signal that has been sent takes effect later, so a thread may still answer a request.

    Raises:
        ProcessLookupError: there is no such process.
    """
    os.kill(pid, signal.SIGSTOP)
    while not all(map(_is_stopped, Path(f"/proc/{pid}/task").glob("*"))):
        time.sleep(_POLL_S)


def _is_stopped(thread: Path) -> bool:
    # A thread that has just ended has no file.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        # The state follows the name, which may contain anything, in parentheses.
        return (thread / "stat").read_text().rpartition(")")[2].split()[0] in _STOPPED
    return True
