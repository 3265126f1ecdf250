"""Keep the background loops of a worker running after any error."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from tailrace_shared.process.log_throttle import LogThrottle

_PAUSE_S: Final = 1.0

_log = structlog.get_logger(__name__)


async def keep_running(name: str, run: Callable[[], Awaitable[object]]) -> NoReturn:
    """Call ``run``, and call it again after it has raised, until cancelled.

    Args:
        name: names the loop in the log.
        run: runs until it is cancelled.
    """
    throttle = LogThrottle()
    while True:
        try:
            await run()
        except Exception:  # noqa: BLE001 - logged; the loop starts again
            if throttle.is_due():
                _log.exception("background loop failed", loop=name)
        await asyncio.sleep(_PAUSE_S)
