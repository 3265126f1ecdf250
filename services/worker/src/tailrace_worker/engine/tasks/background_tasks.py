"""Run small pieces of work beside the drive of one execution, each retried until it is done.

A failure never interrupts the drive: the attempts that it runs would run twice. Work that fails
again and again is given up, and its drive learns of that once it has nothing else to do.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from tailrace_shared.errors import UnavailableError
from tailrace_worker.engine.tasks.retry import retry_forever

_MAX_TRIES: Final = 5
_FIRST_PAUSE_S: Final = 0.2

_log = structlog.get_logger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]


class BackgroundTasks:
    """Runs work on the engine's loop.

    Args:
        wake: called whenever a piece of work has ended.
        log_fields: fields of the log messages about failures.
    """

    def __init__(self, wake: Callable[[], None], **log_fields: str) -> None:
        self._wake = wake
        self._log_fields = log_fields
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._failure: Exception | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Work) -> None:
        """Start a piece of work. It must be idempotent: it is repeated while NATS is away."""
        task = asyncio.get_running_loop().create_task(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def raise_failure(self) -> None:
        """Raise the first error of work that was given up, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def join(self) -> None:
        """Wait until all work has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        self._is_closed = True
        for task in self._tasks:
            task.cancel()

    def reopen(self) -> None:
        self._is_closed = False

    async def _run(self, work: Work) -> None:
        for tries in range(1, _MAX_TRIES + 1):
            try:
                await retry_forever(work, lambda: self._is_closed)
            except UnavailableError:
                return  # closed; the next drive starts it again
            except Exception as error:  # noqa: BLE001 - raised by raise_failure, in the drive
                _log.warning(
                    "background task failed",
                    error=str(error) or repr(error),
                    tries=tries,
                    **self._log_fields,
                )
                if tries == _MAX_TRIES:
                    self._failure = self._failure or error
                    return
                await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (tries - 1))
            else:
                return

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake()
