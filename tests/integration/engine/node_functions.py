"""User node functions for engine tests; what they did is written to files, to be counted."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tailrace_worker.nodes import NodeContext, NodeFailedError, node


def _note(folder: str, ctx: NodeContext, what: str) -> None:
    line = f"{what} {ctx.node_id} {ctx.attempt} {os.getpid()} {ctx.idempotency_key}\n"
    with Path(folder, "effects").open("a") as effects:
        effects.write(line)


@node("test.effect")
async def effect(
    ctx: NodeContext, folder: str, seconds: float = 0.0, held: str = ""
) -> dict[str, Any]:
    """Note that the step began, sleep, note that it ended; the step ``held`` awaits a file."""
    _note(folder, ctx, "began")
    await asyncio.sleep(seconds)
    # What the test does in its own process, no event here can tell.
    while ctx.node_id == held and not Path(folder, "go").exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.01)
    _note(folder, ctx, "ended")
    return {"attempt": ctx.attempt}


@node("test.blocking")
def blocking(ctx: NodeContext, folder: str) -> str:
    """Block a thread until the attempt is cancelled."""
    _note(folder, ctx, "began")
    while not ctx.cancelled:
        time.sleep(0.01)
    _note(folder, ctx, "cancelled")
    return threading.current_thread().name


@node("test.flaky")
def flaky(ctx: NodeContext, fails: int) -> int:
    """Fail as many attempts as asked, then succeed with the number of the attempt."""
    if ctx.attempt <= fails:
        raise NodeFailedError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


@node("test.sync")
def sync(value: Any) -> dict[str, Any]:
    """Return the value and the name of the thread that ran this."""
    return {"value": value, "thread": threading.current_thread().name}


@node("test.chatty")
async def chatty(ctx: NodeContext, seconds: float) -> None:
    """Report progress as fast as possible for a while."""
    end = time.monotonic() + seconds
    reports = 0
    while (left := end - time.monotonic()) > 0:
        ctx.progress(100 * (1 - left / seconds), f"report {reports}", reports=reports)
        reports += 1
        await asyncio.sleep(0)
    ctx.log("done", reports=reports)


@node("test.exit")
async def leave() -> None:
    """Try to end the whole process."""
    sys.exit(3)


@node("test.kill")
def kill() -> None:
    """End the whole process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), 9)
