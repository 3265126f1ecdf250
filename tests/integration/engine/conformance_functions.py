"""Node functions that behave alike in-process and on a worker."""

import asyncio
from typing import Any

from tailrace_worker.nodes import NodeContext, NodeFailedError, node


@node("proof.step")
async def step(
    ctx: NodeContext,
    folder: str = "",
    fails: int = 0,
    seconds: float = 0.0,
    bytes: int = 0,  # noqa: A002 - a key of `with`
) -> Any:
    """Sleep, and fail in the first ``fails`` attempts."""
    del folder
    await asyncio.sleep(seconds)
    if ctx.attempt <= fails:
        raise NodeFailedError("failed as configured")
    return "x" * bytes if bytes else {"attempt": ctx.attempt}


@node("same.report")
def report(ctx: NodeContext, text: str) -> dict[str, str]:
    """Report progress and a line, on a thread."""
    ctx.progress(50, "half of it")
    ctx.log(text, level="warning")
    return {"key": ctx.idempotency_key.partition(":")[2]}


@node("same.raise")
def broken(kind: str) -> None:
    """Raise errors of several classes."""
    match kind:
        case "key":
            raise KeyError("missing")
        case "final":
            raise NodeFailedError("no use", retryable=False, detail="the reason")
        case _:
            raise SystemExit(3)
