"""Actor nodes for engine tests; what they did is written to files, to be counted."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

from dramatiq.middleware import CurrentMessage, Shutdown

from tailrace_worker.nodes import NodeContext, NodeFailedError, node


def _note(folder: str, ctx: NodeContext, what: str) -> None:
    line = f"{what} {ctx.node_id} {ctx.attempt} {os.getpid()} {ctx.idempotency_key}\n"
    with Path(folder, "effects").open("a") as effects:
        effects.write(line)


def _until(folder: str, gate: str) -> bool:
    return Path(folder, gate).exists()


@node("actor.effect", actor=True)
def effect(ctx: NodeContext, folder: str, seconds: float = 0.0) -> dict[str, Any]:
    """Note that the attempt began, work, note that it ended."""
    _note(folder, ctx, "began")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.01)
    _note(folder, ctx, "ended")
    message = CurrentMessage.get_current_message()
    return {
        "attempt": ctx.attempt,
        "pid": os.getpid(),
        "queue": message and message.queue_name,
        "thread": threading.current_thread().name,
    }


@node("actor.async", actor=True)
async def effect_async(ctx: NodeContext, folder: str, seconds: float = 0.0) -> dict[str, Any]:
    """Do the same as a coroutine function."""
    _note(folder, ctx, "began")
    await asyncio.sleep(seconds)
    _note(folder, ctx, "ended")
    return {"attempt": ctx.attempt, "thread": threading.current_thread().name}


@node("actor.gated", actor=True)
def gated(ctx: NodeContext, folder: str) -> int:
    """Note that the attempt began; go on when the test opens the gate. The last attempt ends."""
    _note(folder, ctx, "began")
    while not _until(folder, "gate"):
        time.sleep(0.01)
    _note(folder, ctx, "ended")
    return ctx.attempt


@node("actor.flaky", actor=True)
def flaky(ctx: NodeContext, fails: int) -> int:
    """Fail as many attempts as asked, then succeed with the number of the attempt."""
    if ctx.attempt <= fails:
        raise NodeFailedError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


class PanicException(BaseException):
    """The panic of an extension in Rust."""


def _panic(ctx: NodeContext) -> int:
    if ctx.attempt == 1:
        raise PanicException("index out of bounds")
    if ctx.attempt == 2:
        raise GeneratorExit
    if ctx.attempt == 3:
        raise Shutdown
    return ctx.attempt


@node("actor.panic", actor=True)
def panic(ctx: NodeContext) -> int:
    """Raise what is no ``Exception``, three times."""
    return _panic(ctx)


@node("panic.sync")
def panic_sync(ctx: NodeContext) -> int:
    """Do the same in a thread."""
    return _panic(ctx)


@node("panic.async")
async def panic_async(ctx: NodeContext) -> int:
    """Do the same on the loop."""
    return _panic(ctx)


@node("panic.instant", instant=True)
def panic_instant(ctx: NodeContext) -> int:
    """Do the same inside a commit."""
    return _panic(ctx)


@node("actor.stubborn", actor=True)
def stubborn(ctx: NodeContext, folder: str) -> None:
    """Run until something is raised, and note what."""
    _note(folder, ctx, "began")
    try:
        while True:
            time.sleep(0.01)
    except BaseException as error:
        _note(folder, ctx, type(error).__name__)
        raise


@node("actor.limited", actor=True, time_limit=300)
def limited(ctx: NodeContext, folder: str) -> None:
    """Run until Dramatiq's time limit passes."""
    stubborn(ctx, folder)


@node("actor.limited_async", actor=True, time_limit=300)
async def limited_async() -> None:
    """Sleep until Dramatiq's time limit passes."""
    await asyncio.sleep(60)


@node("actor.polite", actor=True)
def polite(ctx: NodeContext, folder: str) -> str:
    """Run until the attempt is not wanted any more."""
    _note(folder, ctx, "began")
    while not ctx.cancelled:
        time.sleep(0.01)
    _note(folder, ctx, "observed")
    return "partial"


@node("actor.polite_async", actor=True)
async def polite_async(ctx: NodeContext, folder: str) -> str:
    """Do the same as a coroutine function."""
    _note(folder, ctx, "began")
    while not ctx.cancelled:  # noqa: ASYNC110 - the context offers no event
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    _note(folder, ctx, "observed")
    return "partial"


@node("actor.chatty", actor=True)
def chatty(ctx: NodeContext, seconds: float) -> None:
    """Report progress as fast as possible for a while."""
    end = time.monotonic() + seconds
    reports = 0
    while (left := end - time.monotonic()) > 0:
        ctx.progress(100 * (1 - left / seconds), f"report {reports}", reports=reports)
        reports += 1
        time.sleep(0.001)
    ctx.log("done", reports=reports)


@node("actor.large", actor=True)
def large(size: int) -> str:
    """Return a text of so many characters."""
    return "x" * size


@node("actor.kill", actor=True)
def kill() -> None:
    """End the whole process, as the kernel does when memory runs out."""
    os.kill(os.getpid(), 9)
