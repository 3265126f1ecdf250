"""The node type ``emit``: send a trigger to the steps that await it."""

from collections.abc import Awaitable, Callable
from typing import Any

from tailrace_shared.errors import ServiceError, UnavailableError
from tailrace_worker.nodes.node import NodeContext, NodeFailedError, node

Emit = Callable[[NodeContext, str, Any], Awaitable[int]]
"""Sends a trigger for an attempt, with procedure and data; returns the number of resumed steps."""


def make_emit_node(send: Emit) -> Callable[..., Awaitable[dict[str, int]]]:
    """Return the node function that sends triggers by ``send``."""

    @node("emit")
    async def emit(ctx: NodeContext, procedure: str, data: Any = None) -> dict[str, int]:
        """Send ``data`` to the tenant's ``await`` steps whose triggers name ``procedure``."""
        if not isinstance(procedure, str):
            raise NodeFailedError("the procedure must be a text", retryable=False)
        try:
            matched = await send(ctx, procedure, {} if data is None else data)
        except UnavailableError:
            raise
        except ServiceError as error:
            raise NodeFailedError(str(error), retryable=False) from None
        return {"matched": matched}

    return emit
