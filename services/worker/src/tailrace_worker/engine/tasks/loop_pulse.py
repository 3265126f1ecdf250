"""Tell from any thread whether an event loop runs its callbacks.

A probe that asks the loop and waits for its answer needs the interpreter's lock several times,
while threads of nodes compete for it. So the loop notes twice a second that it runs, and a probe
asks it only if it has not done so lately.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Final

_INTERVAL_S: Final = 0.5
_RECENT_S: Final = 1.0


class LoopPulse:
    """Notes that an event loop runs.

    Args:
        loop: the event loop.
        now: the clock, in seconds; may be called from any thread.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._loop = loop
        self._now = now
        self._ran_at = float("-inf")

    def begin(self) -> None:
        """Note from now on that the loop runs; called on the loop."""
        self._ran_at = self._now()
        self._loop.call_later(_INTERVAL_S, self.begin)

    def is_felt(self, timeout: float) -> bool:
        """Return whether the loop ran lately, or answers within ``timeout`` seconds."""
        if self._now() - self._ran_at < _RECENT_S:
            return True
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return answered.wait(timeout)
