"""Wait for what a process reports only when it is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

_PAUSE_S: Final = 0.1


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    """Ask again until a condition is true."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(_PAUSE_S)
