"""``simulate``: sleeps as if it worked, for examples, tests and benchmarks."""

import asyncio
import random
import time
from typing import Any, Final

from tailrace_shared.duration import Duration
from tailrace_worker.nodes.node import NodeContext, NodeFailedError, node

_REPORTS: Final = 20
_LOOK_SECONDS: Final = 0.2


@node("simulate")
async def simulate(
    ctx: NodeContext,
    duration: str = "0s",
    progress: bool = False,
    fail_rate: float = 0.0,
    seed: int | None = None,
) -> dict[str, Any]:
    """Sleep for ``duration``; fail with probability ``fail_rate``.

    With a ``seed`` the same attempt of the same node fails or succeeds alike in every run.
    """
    try:
        seconds = Duration.parse(duration)
    except ValueError as error:
        raise NodeFailedError(str(error), retryable=False) from None
    source = random.Random(None if seed is None else f"{seed}:{ctx.node_id}:{ctx.attempt}")  # noqa: S311 - no secret
    if progress and seconds:
        for report in range(_REPORTS):
            ctx.progress(100 * report / _REPORTS)
            await _sleep(seconds / _REPORTS, ctx)
    elif seconds:
        await _sleep(seconds, ctx)
    if source.random() < fail_rate:
        raise NodeFailedError("simulated failure")
    return {}


async def _sleep(seconds: float, ctx: NodeContext) -> None:
    """Sleep, but not much longer than somebody wants the result."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if ctx.cancelled:
            raise NodeFailedError("cancelled", retryable=False)
        await asyncio.sleep(min(left, _LOOK_SECONDS))
