"""Waiting for NATS: what runs is not given up because a server is away for a while."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tailrace_shared.errors import UnavailableError

_PATIENCE: Final = 300.0
_PAUSE: Final = 0.5

T = TypeVar("T")


async def patiently(
    ask: Callable[[], Awaitable[T]],
    gives_up: Callable[[], bool] = lambda: False,
    patience: float = _PATIENCE,
) -> T:
    """Ask, and go on asking while NATS is away.

    Args:
        ask: what may fail; repeating it must do no harm.
        gives_up: tells, after a failure, that nobody waits for the answer any more.
        patience: how long to go on, in seconds.

    Raises:
        UnavailableError: NATS was away for longer, or it was given up.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await ask()
        except UnavailableError:
            if gives_up() or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_PAUSE)
