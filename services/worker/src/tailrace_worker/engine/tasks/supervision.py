"""Keep the event loop and the background loops of a worker running after any error."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import structlog

from tailrace_shared.process.log_throttle import LogThrottle

_PAUSE_S: Final = 1.0

_log = structlog.get_logger(__name__)


def run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop until its ``stop`` is called.

    A SystemExit or KeyboardInterrupt in a task ends ``run_forever``, and a node function may start
    tasks of its own. The loop is shared with all other executions.
    """
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            _log.exception("a task of a node tried to end the worker")
        else:
            return


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
