"""Ports of this machine's loopback, handed out so that no two test processes get the same.

A port that was found free is taken by its server only later, and a server that restarts gives its
port back for a moment. So each process keeps a block of ports to itself for as long as it lives, by
a lock on a file, and goes through the block from one end to the other.

All ports lie below the range from which the kernel takes those of outgoing connections, so that
no client of another test can take one before its server does.
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
    """Return the first of ``count`` TCP ports in a row that nobody listens on now.

    No other test process gets any of them, and this one gets them again only when it has gone
    through all others.
    """
    upcoming = _upcoming(os.getpid())
    run: list[int] = []
    for port in itertools.islice(upcoming, 2 * _BLOCK):
        follows = bool(run) and run[-1] + 1 == port
        run = [*(run if follows else []), port] if _is_free(port) else []
        if len(run) == count:
            return run[0]
    raise RuntimeError(f"no {count} free ports in a row")


# By process: what a fork has inherited is its parent's.
@functools.cache
def _upcoming(_pid: int) -> Iterator[int]:
    first = _FIRST + _claimed() * _BLOCK
    return itertools.cycle(range(first, first + _BLOCK))


def _claimed() -> int:
    """Return the number of a block, which is this process's own until it ends."""
    folder = Path(tempfile.gettempdir(), f"tailrace-test-ports-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    # Not the first that is free: one that was left just now may have servers that are ending.
    for number in random.SystemRandom().sample(range(_BLOCKS), _BLOCKS):
        # Left open, and not inherited by servers, which may outlive a test process that is killed.
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
