"""The step that every engine of the comparison runs: an async function that does nothing."""

from typing import Any

from tailrace_worker.nodes.node import node


@node("bench.nothing")
async def nothing() -> dict[str, Any]:
    """Do nothing."""
    return {}
