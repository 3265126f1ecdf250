"""Drain: the end of all streams, one after the other.

Clients that are ended together come back together, to replicas that have no use for a storm. So
the streams of a stopping process end in no particular order, spread over the time that there is,
and each with another delay. Few streams need no spreading.
"""

import asyncio
import random
from collections.abc import Collection
from typing import Final, Protocol

# So many ends a second are no storm.
_EASY_PACE: Final = 500.0
_STEP: Final = 0.02


class Ending(Protocol):
    """What can be ended."""

    def end(self, reason: str) -> None:
        """End in good order."""


def pace(streams: int, seconds: float) -> int:
    """Return how many streams to end in each step so that all have ended in ``seconds``."""
    steps = max(1.0, min(seconds, streams / _EASY_PACE) / _STEP)
    return max(1, -int(-streams // steps))


async def drain(connections: Collection[Ending], seconds: float) -> None:
    """End connections at a pace at which all of them are ended in ``seconds`` at the latest."""
    left = list(connections)
    random.shuffle(left)
    at_once = pace(len(left), seconds)
    while left:
        for _ in range(min(at_once, len(left))):
            left.pop().end("drained")
        if left:
            await asyncio.sleep(_STEP * random.uniform(0.5, 1))  # noqa: S311 - spreads, hides nothing
