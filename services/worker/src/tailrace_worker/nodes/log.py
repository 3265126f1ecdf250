"""The node type ``log``: write a line to the execution's log."""

from typing import Any

import msgspec

from tailrace_worker.nodes.node import NodeContext, node


@node("log", instant=True)
def log(ctx: NodeContext, message: Any, level: str = "info") -> dict[str, Any]:
    """Write ``message``, as JSON unless it is a text."""
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    ctx.log(text, level)
    return {}
