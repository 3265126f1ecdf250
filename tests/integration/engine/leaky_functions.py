"""Node functions that let a secret out in every way that they can."""

import asyncio
import logging
import os
import threading
import urllib.parse
from typing import Any

import structlog

from tailrace_worker.nodes import NodeContext, NodeFailedError, node


def _forms(secret: str) -> list[str]:
    return [secret, repr(secret), urllib.parse.quote(secret), f"prefix{secret}suffix"]


@node("leak.output")
async def output(secret: str, size: int = 0) -> Any:
    """Return it, in keys and values, however large the output."""
    return {"value": secret, secret: [{"deep": _forms(secret)}], "filler": "x" * size}


@node("leak.thread")
def thread(ctx: NodeContext, secret: str) -> Any:
    """Report, log and return a secret from a thread that the node starts itself."""
    _report(ctx, secret)
    return _forms(secret)


@node("leak.report")
async def report(ctx: NodeContext, secret: str) -> None:
    """Report it in messages, fields and levels, cut in the middle as well."""
    _report(ctx, secret)
    await asyncio.sleep(0.3)
    ctx.progress(100, secret, secret=secret)


@node("leak.error")
async def error(ctx: NodeContext, secret: str) -> None:
    """Raise it in each attempt: for people, as a bug, within a cause."""
    match ctx.attempt:
        case 1:
            raise NodeFailedError(f"cannot use {secret}")
        case 2:
            raise ValueError(_forms(secret)) from KeyError(secret)
        case _:
            raise RuntimeError("x" * 4090 + secret)


@node("leak.crash")
async def crash(ctx: NodeContext, secret: str) -> int:
    """Take the worker down in the first attempt, having said why."""
    ctx.log(f"about to use {secret}")
    logging.getLogger("leaky").error("crashing with %s", secret)
    await asyncio.sleep(0.5)
    if ctx.attempt == 1:
        os._exit(1)
    return len(secret)


@node("leak.actor", actor=True)
def actor(ctx: NodeContext, secret: str) -> Any:
    """Do everything in an actor; fail at first."""
    _report(ctx, secret)
    if ctx.attempt == 1:
        raise ValueError(f"not with {secret}")
    return {secret: _forms(secret)}


@node("leak.async_actor", actor=True)
async def async_actor(ctx: NodeContext, secret: str) -> Any:
    """Do everything in an actor that is a coroutine function."""
    _report(ctx, secret)
    return _forms(secret)


def _report(ctx: NodeContext, secret: str) -> None:
    ctx.progress(50, f"half way with {secret}", secret=secret, nested={"list": _forms(secret)})
    ctx.log(f"using {secret}", "warning", **{secret: secret})
    ctx.log("x" * 2040 + secret)
    ctx.log("level", secret)
    logging.getLogger("leaky").warning("with %s", secret, extra={"secret": secret})
    structlog.get_logger("leaky").error("event", secret=secret, forms=_forms(secret))
    threading.Thread(target=_log_from_elsewhere, args=(secret,)).start()


def _log_from_elsewhere(secret: str) -> None:
    logging.getLogger("leaky").error("elsewhere", exc_info=OSError(secret))
