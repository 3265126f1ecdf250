"""Reserve file descriptors for connections, and report that the process has none left.

The event loop then accepts no connection, and says nothing about it.
"""

import asyncio
import contextlib
import fcntl
import os
import resource
from pathlib import Path
from typing import Final

import structlog

from tailrace_shared.process.log_throttle import LogThrottle

_CHECK_S: Final = 5.0

_log = structlog.get_logger(__name__)


def reserve_descriptors(count: int) -> None:
    """Make the kernel's table of the process's open files large enough, as far as its limit allows.

    The table doubles when it is full. In a process with several threads, the thread that opens the
    file then sleeps for 10 to 20 ms, and the event loop with it: four times while a thousand
    clients connect. Call this before there are threads. An entry takes 8 bytes; the table never
    shrinks.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = (count if limit == resource.RLIM_INFINITY else min(count, limit)) - 1
    with contextlib.suppress(OSError), Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD, highest))


async def watch_descriptors(interval_s: float = _CHECK_S) -> None:
    """Try to open a file now and then; log an error, at most one a minute, if that fails."""
    throttle = LogThrottle()
    while True:
        if (failure := open_failure()) and throttle.is_due():
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            _log.error(
                "no file descriptors left; connections are not accepted",
                error=failure,
                limit=limit,
                fix="raise the limit of open files (ulimit -n), or lower TAILRACE_MAX_STREAMS",
            )
        await asyncio.sleep(interval_s)


def open_failure() -> str:
    """Return why the process cannot open a file; empty if it can."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.strerror or str(error)
    return ""
