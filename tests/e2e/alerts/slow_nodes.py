"""Node types that keep a worker busy."""

import asyncio

from tailrace_worker.nodes import node


@node("slow")
async def slow() -> None:
    """Take half a second."""
    await asyncio.sleep(0.5)


@node("held")
async def held() -> None:
    """Take longer than a drill."""
    await asyncio.sleep(600)
