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
# What was measured of drives of small and of large runs, with what they know of them.
_EACH: Final = 8 * 1024
_EACH_NODE: Final = 128
_EACH_BYTE: Final = 3

T = TypeVar("T")


def memory_of(log_bytes: int, nodes: int) -> int:
    """Return about how many bytes an execution takes whose log has so many and so many nodes."""
    return _EACH + _EACH_NODE * nodes + _EACH_BYTE * log_bytes


class _Kept(NamedTuple, Generic[T]):
    thing: T
    size: int
    until: float


class TtlCache(Generic[T]):
    """Keeps things of executions (tenant, id), in bounds. What is taken is on it no more.

    Args:
        later: calls something after some seconds, as a loop's ``call_later`` does.
        most_bytes: how much all things may take, but for the newest.
        longest: how long a thing is kept, in seconds.
        clock: tells the time, in seconds.
    """

    def __init__(
        self,
        later: Callable[[float, Callable[[], None]], object],
        most_bytes: int = _MOST_BYTES,
        longest: float = _LONGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._later = later
        self._most_bytes = most_bytes
        self._longest = longest
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept[T]] = OrderedDict()
        self._bytes = 0
        self._will_look = False

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, key: tuple[str, str], thing: T, size: int) -> None:
        """Put a thing of an execution aside, in place of another that it may have."""
        self._remove(key)
        self._kept[key] = _Kept(thing, size, self._clock() + self._longest)
        self._bytes += size
        self._tidy()
        self._look_later()

    def take(self, key: tuple[str, str]) -> T | None:
        """Take an execution's thing; None if there is none, or not any more."""
        self._tidy()
        return self._remove(key)

    def _look_later(self) -> None:
        # Nobody need ask for anything: what is not wanted goes all the same.
        if self._kept and not self._will_look:
            self._will_look = True
            self._later(self._longest, self._look)

    def _look(self) -> None:
        self._will_look = False
        self._tidy()
        self._look_later()

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
