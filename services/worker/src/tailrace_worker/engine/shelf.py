"""A shelf: what was made with some effort, put aside for a while in case it is wanted again.

An execution that waits costs no memory for long; but one whose steps are ended by others, one after
the other, comes back a thousand times, and must not be read from its beginning each time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

_MOST_BYTES: Final = 32 * 1024 * 1024
_LONGEST: Final = 60.0

T = TypeVar("T")


class _Kept(NamedTuple, Generic[T]):
    thing: T
    size: int
    until: float


class Shelf(Generic[T]):
    """Keeps things of executions (tenant, id), in bounds. What is taken is on it no more.

    Args:
        most_bytes: how much all things may take, but for the newest.
        longest: how long a thing is kept, in seconds.
        clock: tells the time, in seconds.
    """

    def __init__(
        self,
        most_bytes: int = _MOST_BYTES,
        longest: float = _LONGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most_bytes = most_bytes
        self._longest = longest
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept[T]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: tuple[str, str], thing: T, size: int) -> None:
        """Put a thing of an execution aside, in place of another that it may have."""
        self._remove(key)
        self._kept[key] = _Kept(thing, size, self._clock() + self._longest)
        self._bytes += size
        self._tidy()

    def take(self, key: tuple[str, str]) -> T | None:
        """Take an execution's thing; None if there is none, or not any more."""
        self._tidy()
        return self._remove(key)

    def _tidy(self) -> None:
        # All are kept for as long, so the one that was put there first is over first.
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            is_too_much = self._bytes > self._most_bytes and len(self._kept) > 1
            if not is_too_much and self._clock() < oldest.until:
                return
            self._remove(key)

    def _remove(self, key: tuple[str, str]) -> T | None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        self._bytes -= kept.size
        return kept.thing
