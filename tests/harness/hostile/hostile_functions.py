"""Node functions that a hostile tenant uses."""

from typing import Any

from tailrace_worker.nodes import NodeContext, node


@node("hostile.output")
def output(size: int) -> str:
    """Return a large output."""
    return "x" * size


@node("hostile.report")
def report(ctx: NodeContext, count: int, size: int) -> int:
    """Report progress and log lines without a pause."""
    text = "x" * size
    for number in range(count):
        ctx.log(text, number=number)
        ctx.progress(number % 100, text)
    return count


@node("hostile.echo")
def echo(value: Any) -> Any:
    """Return the value."""
    return value
