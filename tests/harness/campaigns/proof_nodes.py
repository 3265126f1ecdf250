"""Node functions for workers that tests hurt, and the ways in which such a worker hurts itself.

Workers load this module by ``TAILRACE_NODES``; ``PROOF_FOLDER`` says where steps note what they
did and where tests leave their orders:

``deaths/<before|after>.<event>``: the first worker that is about to append (has appended) a commit
with such an event dies on the spot, as by SIGKILL, once.

``clock``: seconds by which the worker's clock is wrong; read again at SIGUSR1.
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
        effects.write(line)  # one write, so lines of several processes do not mix


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
        raise NodeFailedError("as it was told")
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
    """Take effect, take time, fail as often as told."""
    del folder
    _work(ctx, die)
    await asyncio.sleep(seconds)
    return _result(ctx, fails, bytes)


@node("proof.actor", actor=True)
def actor(
    ctx: NodeContext, folder: str = "", fails: int = 0, seconds: float = 0.0, die: str = ""
) -> Any:
    """Do the same as an actor."""
    del folder
    _work(ctx, die)
    time.sleep(seconds)
    return _result(ctx, fails, 0)


@node("proof.talk")
async def talk(ctx: NodeContext, about: Any = None) -> None:
    """Report and write, with fields."""
    told = {} if about is None else {"about": about}
    ctx.progress(50, "half of it", done=1, **told)
    ctx.log("a line", level="warning", where="here", **told)


# Ways to be hurt

_append: Any = vars(log_writer)["append"]
_clock = time.time
_offset = 0.0


async def _deadly_append(*args: Any, **options: Any) -> int:
    _obey("before", args[3])
    sequence: int = await _append(*args, **options)
    _obey("after", args[3])
    return sequence


def _obey(moment: str, payload: bytes) -> None:
    for order in os.listdir(_FOLDER / "deaths"):  # noqa: PTH208 - on every commit
        when, _, event = order.partition(".")
        if when == moment and f'"type":"{event}"'.encode() in payload:
            with contextlib.suppress(FileNotFoundError):
                # Whoever takes the order dies of it, and nobody else.
                (_FOLDER / "deaths" / order).unlink()
                _die()


def _read_clock(*_: object) -> None:
    global _offset  # noqa: PLW0603 - a clock is global
    with contextlib.suppress(FileNotFoundError):
        _offset = float((_FOLDER / "clock").read_text())


def _wrong_clock() -> float:
    return _clock() + _offset


if "PROOF_FOLDER" in os.environ:
    vars(log_writer)["append"] = _deadly_append
    signal.signal(signal.SIGUSR1, _read_clock)
    _read_clock()
    time.time = _wrong_clock
