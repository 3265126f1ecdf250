"""Chores: small things to be done beside the driving of one execution, each until it is done."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from tailrace_shared.errors import UnavailableError
from tailrace_worker.engine.tasks.retry import patiently

_log = structlog.get_logger(__name__)

Chore = Callable[[], Coroutine[Any, Any, None]]


class BackgroundTasks:
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
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def do(self, chore: Chore) -> None:
        """Begin a chore. Repeating it must do no harm: it is repeated while NATS is away."""
        task = asyncio.get_running_loop().create_task(self._do(chore))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def check(self) -> None:
        """Raise what a chore has failed with: without it the execution must not be left alone."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def all_done(self) -> None:
        """Wait until nothing is left to do."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Do nothing more."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    def reopen(self) -> None:
        """Do things again."""
        self._is_closed = False

    async def _do(self, chore: Chore) -> None:
        try:
            await patiently(chore, lambda: self._is_closed)
        except UnavailableError:
            pass  # the drive that follows does it
        except Exception as error:  # noqa: BLE001 - it is raised where it can be dealt with
            _log.warning("left undone", error=str(error) or repr(error), **self._names)
            self._failure = self._failure or error

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake()
