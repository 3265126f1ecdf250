"""Repeat a read until a replica that has caught up answers it.

A Direct Get may be answered by any replica of a stream, and a replica may lag behind the leader.
A reader that knows what must be there asks again, with growing pauses.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tailrace_shared.errors import LaggingReplicaError

T = TypeVar("T")

_PAUSES_S: Final = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


async def until_caught_up(
    read: Callable[[], Awaitable[T]], reached: Callable[[T], bool], what: str
) -> T:
    """Repeat ``read`` until ``reached`` is true of its result; return that result.

    Args:
        read: reads once, from any replica.
        reached: whether the replica that answered had all that the caller knows to exist.

    Raises:
        LaggingReplicaError: every replica that answered within about four seconds lags.
    """
    for pause_s in _PAUSES_S:
        result = await read()
        if reached(result):
            return result
        await asyncio.sleep(pause_s)
    raise LaggingReplicaError(f"no up-to-date replica answered a read of {what}")
