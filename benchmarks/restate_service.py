"""The chain as a Restate service, served by hypercorn in the environment of the peers."""

from typing import Any

import restate

flow = restate.Service("flow")


async def nothing() -> dict[str, Any]:
    """Do nothing."""
    return {}


async def chain(ctx: Any, length: int) -> dict[str, Any]:
    """Run ``length`` steps in sequence."""
    for step in range(length):
        await ctx.run_typed(f"n{step}", nothing)
    return {}


flow.handler()(chain)
app = restate.app([flow])
