"""Replace this process by a command that the kernel kills when its parent dies.

Run as ``python -I -S launch.py PARENT COMMAND…``. The parent-death signal must be set in the child.
A ``preexec_fn`` would run Python between fork and exec, where a lock that another thread held stays
locked forever. This file runs after the exec, in a single-threaded process, and then executes the
command. It imports nothing from Tailrace, so it costs about ten milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Execute ``command`` in this process, to be killed when ``parent`` dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A parent that died before the line above will send no signal.
    if os.getppid() != parent:
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command of `tailrace up`, not a shell's
    except OSError as error:
        sys.exit(f"tailrace: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
