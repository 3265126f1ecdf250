"""User node functions for tests of the engine's features; what they did is written to files."""

import asyncio
import time
from pathlib import Path

from tailrace_worker.nodes import NodeContext, node


def _note(folder: str, ctx: NodeContext, what: str) -> None:
    with Path(folder, "notes").open("a") as notes:
        notes.write(f"{what} {ctx.node_id} {ctx.attempt}\n")


def _begin(folder: str, ctx: NodeContext) -> None:
    _note(folder, ctx, "began")
    ctx.log("began")  # a test may wait for this


@node("test.until")
async def until(ctx: NodeContext, folder: str, file: str = "go") -> int:
    """Succeed as soon as there is a file, with the number of the attempt."""
    _begin(folder, ctx)
    go = Path(folder, file)
    # What the test does in its own process, no event here can tell.
    while not go.exists() and not ctx.cancelled:  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    _note(folder, ctx, "cancelled" if ctx.cancelled else "ended")
    return ctx.attempt


@node("test.until_in_thread")
def until_in_thread(ctx: NodeContext, folder: str, file: str = "go") -> int:
    """Do the same on a thread."""
    _begin(folder, ctx)
    while not Path(folder, file).exists() and not ctx.cancelled:
        time.sleep(0.01)
    _note(folder, ctx, "cancelled" if ctx.cancelled else "ended")
    return ctx.attempt


@node("test.deaf")
async def deaf(ctx: NodeContext, folder: str) -> None:
    """Take the context, never look at it, and note the interruption."""
    _begin(folder, ctx)
    try:
        await asyncio.Event().wait()
    finally:
        _note(folder, ctx, "interrupted")


@node("test.forever")
async def forever() -> None:
    """Never end, and take nothing that could tell to."""
    await asyncio.Event().wait()


@node("test.large")
async def large(size: int, text: str = "x") -> str:
    """Return a text that is ``size`` bytes of JSON."""
    return (text * size)[: size - 2]


@node("test.times")
async def times(ctx: NodeContext, folder: str, fails: int = 0, value: int = 0) -> int:
    """Note the attempt; fail the first ones, then return the value."""
    _note(folder, ctx, "began")
    if ctx.attempt <= fails:
        raise ValueError(f"attempt {ctx.attempt}")
    return value
