"""Chores: small things to be done beside the driving of one execution, each until it is done."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from tailrace_shared.errors import UnavailableError
from tailrace_worker.engine.patience import patiently

_log = structlog.get_logger(__name__)

Chore = Callable[[], Coroutine[Any, Any, None]]


class Chores:
    """Runs chores on the engine's loop.

    Args:
        wake: called whenever one is done.
        names: what the log is to say of them.
    """

    def __init__(self, wake: Callable[[], None], **names: str) -> None:
        self._wake = wake
        self._names = names
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def do(self, chore: Chore) -> None:
        """Begin a chore. Repeating it must do no harm: it is repeated while NATS is away."""
        task = asyncio.get_running_loop().create_task(self._do(chore))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def all_done(self) -> None:
        """Wait until nothing is left to do."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Do nothing more."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    async def _do(self, chore: Chore) -> None:
        try:
            await patiently(chore, lambda: self._is_closed)
        except UnavailableError:
            pass  # the drive that follows does it
        # What breaks in a chore would be seen by nobody, and must not break the execution.
        except Exception:  # noqa: BLE001 - whatever it is, it is told
            _log.exception("left undone", **self._names)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake()
