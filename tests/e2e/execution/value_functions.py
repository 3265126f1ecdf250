"""A node that reports a value and returns it."""

from typing import Any

from tailrace_worker.nodes import NodeContext, node


@node("values.echo")
def echo(ctx: NodeContext, value: Any) -> Any:
    """Return the value, after it was reported."""
    ctx.log("log", value=value)
    ctx.progress(50, "progress", value=value)
    return value
