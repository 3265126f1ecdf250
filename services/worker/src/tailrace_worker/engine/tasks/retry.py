"""Retry calls while NATS is away, so that a restart of a server ends no attempt."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tailrace_shared.errors import UnavailableError

_TIMEOUT_S: Final = 300.0
_PAUSE_S: Final = 0.5

T = TypeVar("T")


async def retry_unavailable(
    call: Callable[[], Awaitable[T]],
    should_give_up: Callable[[], bool] = lambda: False,
    timeout_s: float = _TIMEOUT_S,
) -> T:
    """Call, and call again while NATS is away.

    Args:
        call: what may fail; it must be idempotent.
        should_give_up: asked after each failure; True ends the retries.
        timeout_s: seconds after which the last error is raised.

    Raises:
        UnavailableError: NATS was away for longer, or ``should_give_up`` returned True.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await call()
        except UnavailableError:
            if should_give_up() or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_PAUSE_S)


async def retry_forever(
    call: Callable[[], Awaitable[T]], should_give_up: Callable[[], bool] = lambda: False
) -> T:
    """Call, and call again until NATS answers. ``call`` must be idempotent.

    Raises:
        UnavailableError: ``should_give_up`` returned True.
    """
    return await retry_unavailable(call, should_give_up, timeout_s=math.inf)
