"""The chain as a service of Restate; served by hypercorn, in Restate's environment."""

from typing import Any

import restate

flow = restate.Service("flow")


async def nothing() -> dict[str, Any]:
    """Do nothing."""
    return {}


async def chain(ctx: Any, length: int) -> dict[str, Any]:
    """Run steps one after the other."""
    for step in range(length):
        await ctx.run_typed(f"n{step}", nothing)
    return {}


flow.handler()(chain)
app = restate.app([flow])
