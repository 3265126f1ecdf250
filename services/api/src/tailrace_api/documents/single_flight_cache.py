"""Answers that are good for a moment: made once for all who ask meanwhile."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST: Final = 1000


class SingleFlightCache(Generic[K, V]):
    """Keeps answers for a moment.

    Args:
        seconds: how long an answer is good, from when it began to be made.
        most: how many answers are kept.
    """

    def __init__(self, seconds: float, most: int = _MOST) -> None:
        self._seconds = seconds
        self._most = most
        self._made: OrderedDict[K, tuple[float, asyncio.Task[V]]] = OrderedDict()

    async def get(self, key: K, make: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return the answer for a key, made now unless there is a good one.

        Raises: what ``make`` raises; a failure is good for nobody who asks later.
        """
        until, task = self._made.get(key, (0.0, None))
        if task is None or until < time.monotonic() or _has_failed(task):
            task = asyncio.create_task(make())
            self._made[key] = (time.monotonic() + self._seconds, task)
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        # Whoever began it may be cancelled; the others still want it.
        return await asyncio.shield(task)


def _has_failed(task: "asyncio.Task[Any]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
