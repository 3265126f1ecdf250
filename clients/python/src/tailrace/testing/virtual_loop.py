"""An event loop whose clock jumps to the next timer, and a stand-in where none is needed."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _JumpingSelector(selectors.SelectSelector):
    """Advances the clock where a loop would wait for I/O."""

    def __init__(self, when_stuck: str) -> None:
        super().__init__()
        self.now = 0.0
        self._when_stuck = when_stuck

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError(self._when_stuck)
        self.now += max(timeout, 0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which sleeping takes no time.

    Args:
        when_stuck: The message of the RuntimeError raised if all tasks wait and no timer is set.
    """

    def __init__(self, when_stuck: str) -> None:
        self._jumping = _JumpingSelector(when_stuck)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now


class InlineLoop:
    """The part of a loop that an attempt uses while its function runs in the caller's thread."""

    def call_soon_threadsafe(self, callback: Callable[..., Any], *args: Any) -> None:
        callback(*args)

    def call_at(self, when: float, callback: Callable[..., Any]) -> "InlineLoop":
        del when, callback
        return self

    def cancel(self) -> None:
        """Cancel nothing: it stands for a timer, too."""

    def time(self) -> float:
        return 0.0
