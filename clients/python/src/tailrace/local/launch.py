"""Become another program that the kernel ends when its parent dies.

Run as ``python -I -S launch.py PARENT COMMAND…``. The parent-death signal has to be set in the
child. A ``preexec_fn`` would run Python between fork and exec, where a lock that another thread
held stays locked for ever; this file runs after the exec, in a process of one thread, and then
becomes the command. It imports nothing of Tailrace, so it costs about ten milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Replace this process by ``command``, to be killed with ``parent``."""
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
