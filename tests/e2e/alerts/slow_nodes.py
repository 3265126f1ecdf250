"""A node type that keeps a worker busy."""

import asyncio

from tailrace_worker.nodes import node


@node("slow")
async def slow() -> None:
    """Take half a second."""
    await asyncio.sleep(0.5)
