"""The node type ``log``: write a line to the execution's log."""

from typing import Any

from tailrace_shared.json_encoding import json_text
from tailrace_worker.nodes.node import NodeContext, node


@node("log", instant=True)
def log(ctx: NodeContext, message: Any, level: str = "info") -> dict[str, Any]:
    """Write ``message``, as JSON unless it is a text."""
    ctx.log(json_text(message), level)
    return {}
