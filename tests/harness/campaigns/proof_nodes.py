"""Node functions and fault injection for workers in campaigns.

Workers load this module through ``TAILRACE_NODES``. In the folder ``PROOF_FOLDER`` steps note their
effects, and tests leave orders:

``deaths/<before|after>.<event>``: the first worker that is about to append (has appended) a commit
with such an event kills itself with SIGKILL, once.

``clock``: the error of the worker's clock in seconds, read at the start and at SIGUSR1.
"""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from tailrace_worker.engine.drive import log_writer
from tailrace_worker.nodes import NodeContext, NodeFailedError, node

_FOLDER = Path(os.environ.get("PROOF_FOLDER", "."))


def _note(ctx: NodeContext, what: str) -> None:
    line = f"{what} {ctx.execution_id}:{ctx.node_id} {ctx.attempt} {ctx.idempotency_key}\n"
    with (_FOLDER / "effects").open("a") as effects:
        effects.write(line)  # one write, so that lines of several processes do not mix


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _work(ctx: NodeContext, die: str) -> None:
    _note(ctx, "began")
    if die == "before effect" and ctx.attempt == 1:
        _die()
    _note(ctx, "effect")
    if die == "after effect" and ctx.attempt == 1:
        _die()


def _result(ctx: NodeContext, fails: int, size: int) -> Any:
    if ctx.attempt <= fails:
        raise NodeFailedError("failed as configured")
    return "x" * size if size else {"attempt": ctx.attempt}


@node("proof.step")
async def step(
    ctx: NodeContext,
    folder: str = "",
    fails: int = 0,
    seconds: float = 0.0,
    bytes: int = 0,  # noqa: A002 - a key of `with`
    die: str = "",
) -> Any:
    """Note an effect, sleep, and fail ``fails`` times."""
    del folder
    _work(ctx, die)
    await asyncio.sleep(seconds)
    return _result(ctx, fails, bytes)


@node("proof.actor", actor=True)
def actor(
    ctx: NodeContext, folder: str = "", fails: int = 0, seconds: float = 0.0, die: str = ""
) -> Any:
    """Do the same on an actor."""
    del folder
    _work(ctx, die)
    time.sleep(seconds)
    return _result(ctx, fails, 0)


@node("proof.talk")
async def talk(ctx: NodeContext, about: Any = None) -> None:
    """Report progress and write a log line, with fields."""
    fields = {} if about is None else {"about": about}
    ctx.progress(50, "half of it", done=1, **fields)
    ctx.log("a line", level="warning", where="here", **fields)


# Fault injection

_append: Any = vars(log_writer)["append"]
_clock = time.time
_offset = 0.0


async def _fatal_append(*args: Any, **options: Any) -> int:
    _execute_orders("before", args[3])
    sequence: int = await _append(*args, **options)
    _execute_orders("after", args[3])
    return sequence


def _execute_orders(moment: str, payload: bytes) -> None:
    for order in os.listdir(_FOLDER / "deaths"):  # noqa: PTH208 - on every commit
        when, _, event = order.partition(".")
        if when == moment and f'"type":"{event}"'.encode() in payload:
            with contextlib.suppress(FileNotFoundError):
                # Only the worker that removes the order dies.
                (_FOLDER / "deaths" / order).unlink()
                _die()


def _read_clock(*_: object) -> None:
    global _offset  # noqa: PLW0603 - a clock is global
    with contextlib.suppress(FileNotFoundError):
        _offset = float((_FOLDER / "clock").read_text())


def _wrong_clock() -> float:
    return _clock() + _offset


if "PROOF_FOLDER" in os.environ:
    vars(log_writer)["append"] = _fatal_append
    signal.signal(signal.SIGUSR1, _read_clock)
    _read_clock()
    time.time = _wrong_clock
