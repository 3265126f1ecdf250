"""Report that the process has no file descriptors left.

The event loop then accepts no connection, and says nothing about it.
"""

import asyncio
import os
import resource
from typing import Final

import structlog

from tailrace_shared.process.log_throttle import LogThrottle

_CHECK_S: Final = 5.0

_log = structlog.get_logger(__name__)


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
