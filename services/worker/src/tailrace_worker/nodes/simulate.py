"""The node type ``simulate``: sleep instead of working, for examples, tests and benchmarks."""

import asyncio
import random
from typing import Any, Final

from tailrace_shared.duration import Duration
from tailrace_worker.nodes.node import NodeContext, NodeFailedError, node

_PROGRESS_REPORTS: Final = 20
_CANCEL_CHECK_S: Final = 0.2


@node("simulate")
async def simulate(
    ctx: NodeContext,
    duration: str = "0s",
    progress: bool = False,
    fail_rate: float = 0.0,
    seed: int | None = None,
) -> dict[str, Any]:
    """Sleep for ``duration``; fail with probability ``fail_rate``.

    With a ``seed``, the same attempt of the same node has the same outcome in every run.
    """
    try:
        seconds = Duration.parse(duration)
    except ValueError as error:
        raise NodeFailedError(str(error), retryable=False) from None
    rng = random.Random(None if seed is None else f"{seed}:{ctx.node_id}:{ctx.attempt}")  # noqa: S311 - simulation, not cryptography
    if progress and seconds:
        for report in range(_PROGRESS_REPORTS):
            ctx.progress(100 * report / _PROGRESS_REPORTS)
            await _sleep(seconds / _PROGRESS_REPORTS, ctx)
    elif seconds:
        await _sleep(seconds, ctx)
    if rng.random() < fail_rate:
        raise NodeFailedError("simulated failure")
    return {}


async def _sleep(seconds: float, ctx: NodeContext) -> None:
    """Sleep, but end soon after the attempt is cancelled."""
    # The clock of the loop, which jumps in tests.
    now = asyncio.get_running_loop().time
    end = now() + seconds
    while (left := end - now()) > 0:
        if ctx.cancelled:
            raise NodeFailedError("cancelled", retryable=False)
        await asyncio.sleep(min(left, _CANCEL_CHECK_S))
