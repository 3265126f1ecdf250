"""The node function that every engine of the comparison runs: it does nothing."""

from typing import Any

from tailrace_worker.nodes.node import node


@node("bench.nothing")
async def nothing() -> dict[str, Any]:
    """Do nothing."""
    return {}
