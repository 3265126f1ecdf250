"""Free loopback ports, never the same for two test processes.

A server binds its port some time after the port was found free, and releases it for a moment when
it restarts. So each process reserves a block of ports with a file lock for its lifetime, and cycles
through the block.

All ports are below the kernel's range for outgoing connections, so no client of another test can
take one before its server does.
"""

import contextlib
import fcntl
import functools
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FIRST: Final = 10_000
_BLOCK: Final = 400
_BLOCKS: Final = 55
_LOOPBACK: Final = "127.0.0.1"


def free_port(count: int = 1) -> int:
    """Return the first of ``count`` consecutive TCP ports that are free now.

    No other test process gets any of them, and this process reuses them only after all other ports
    of its block.
    """
    upcoming = _upcoming(os.getpid())
    run: list[int] = []
    for port in itertools.islice(upcoming, 2 * _BLOCK):
        follows = bool(run) and run[-1] + 1 == port
        run = [*(run if follows else []), port] if _is_free(port) else []
        if len(run) == count:
            return run[0]
    raise RuntimeError(f"no {count} free ports in a row")


# Keyed by process: a forked child must not use its parent's block.
@functools.cache
def _upcoming(_pid: int) -> Iterator[int]:
    first = _FIRST + _claimed() * _BLOCK
    return itertools.cycle(range(first, first + _BLOCK))


def _claimed() -> int:
    """Reserve a block for the lifetime of this process; return its number."""
    folder = Path(tempfile.gettempdir(), f"tailrace-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    # In random order: the first free block may still have servers that are shutting down.
    for number in random.SystemRandom().sample(range(_BLOCKS), _BLOCKS):
        # Keep the file open, but not in servers, which may outlive a killed test process.
        held = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
        else:
            return number
    raise RuntimeError(f"all ports are other processes': see {folder}")


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind((_LOOPBACK, port))
        return True
    return False
