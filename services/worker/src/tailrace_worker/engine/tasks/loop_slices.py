"""Let the event loop read from its sockets between long computations.

A loop runs everything that is ready before it looks at its sockets again. Computations of
milliseconds in a hundred executions would together stall it for a second.
"""

import asyncio
from typing import Final

_LONG_S: Final = 0.001
_SLICE_S: Final = 0.01


class LoopSlices:
    """Limits the time of long computations in one iteration of a loop.

    Args:
        loop: the loop that they run on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._used_s = 0.0

    @property
    def is_full(self) -> bool:
        """Whether the next long computation should wait for the next iteration."""
        return self._used_s >= _SLICE_S

    async def wait(self) -> None:
        """Wait for an iteration with time left."""
        while self.is_full:  # noqa: ASYNC110 - the next iteration is what it waits for
            await asyncio.sleep(0)

    def add(self, seconds: float) -> None:
        """Count a computation of this iteration, unless it was short."""
        if seconds < _LONG_S:
            return
        if not self._used_s:
            self._loop.call_soon(self._reset)
        self._used_s += seconds

    def _reset(self) -> None:
        self._used_s = 0.0
