"""End all streams of a stopping process at a limited rate.

Clients whose streams end together reconnect together, and would overload the other replicas. So
streams end in random order, spread over the available time, each with its own retry delay. A small
number of streams ends without spreading.
"""

import asyncio
import random
from collections.abc import Collection
from typing import Final

from tailrace_api.fanout.clients.connection import ClientConnection

# Reconnects per second that other replicas absorb easily.
_EASY_RATE: Final = 500.0
_STEP_S: Final = 0.02


def streams_per_step(streams: int, seconds: float) -> int:
    """Return how many streams to end per step so that all have ended after ``seconds``."""
    steps = max(1.0, min(seconds, streams / _EASY_RATE) / _STEP_S)
    return max(1, -int(-streams // steps))


async def drain(connections: Collection[ClientConnection], seconds: float) -> None:
    """End all connections within ``seconds``."""
    remaining = list(connections)
    random.shuffle(remaining)
    per_step = streams_per_step(len(remaining), seconds)
    while remaining:
        for _ in range(min(per_step, len(remaining))):
            remaining.pop().end("drained")
        if remaining:
            await asyncio.sleep(_STEP_S * random.uniform(0.5, 1))  # noqa: S311 - jitter
