"""Share one task between concurrent calls for one key (single-flight)."""

import asyncio
import functools
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs at most one call for each key at a time."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    async def run(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the result of the call in flight for a key, or else of a new one.

        Raises: what ``make`` raises, in every caller that waits for it.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(make())
            task.add_done_callback(functools.partial(self._finish, key))
        # The caller that began it may be cancelled while the others still wait.
        return await asyncio.shield(task)

    def _finish(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            # Mark an error as retrieved: all callers may have been cancelled by now.
            task.exception()
