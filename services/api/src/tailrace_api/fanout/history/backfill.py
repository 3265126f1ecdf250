"""Send the past events of single executions at the beginning of a tenant's stream (backfill).

The log of an execution is read from its first commit up to the position at which the stream begins.
Later events arrive with the stream.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from tailrace_api.dialects.block import Block
from tailrace_api.dialects.dialect import ILLEGIBLE
from tailrace_api.fanout.history.log_edges import LogEdges
from tailrace_api.fanout.history.replay import Replay
from tailrace_api.fanout.views.view import View
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import Commit
from tailrace_shared.subjects import LogFilter


async def backfill(
    edges: LogEdges, replay: Replay, view: View, execution: str, edge: int
) -> AsyncIterator[Sequence[Block]]:
    """Yield the blocks of an execution's commits up to a sequence.

    Raises:
        UnavailableError: NATS did not answer, or only replicas that lag.
    """
    part = LogFilter(view.part.tenant, execution)
    newest = await edges.newest(part)
    if newest is None:
        yield view.dialect.backfill(execution, None)
        return
    last = 0

    async def read() -> Sequence[Commit]:
        return await replay.commits(part, last + 1)

    # Only a commit at or beyond the edge proves that the replica holds everything up to it.
    while last < newest.sequence and last < edge:
        commits = await until_caught_up(read, bool, f"execution {execution!r}")
        last = commits[-1].sequence
        yield _render(view, execution, (each for each in commits if each.sequence <= edge))


def _render(view: View, execution: str, commits: Iterable[Commit]) -> list[Block]:
    blocks: list[Block] = []
    for commit in commits:
        if not commit.is_newer or view.dialect.is_verbatim:
            # Another client may have written to the log. Legible commits are still shown.
            with contextlib.suppress(*ILLEGIBLE):
                blocks += view.dialect.backfill(execution, commit.payload)
    return blocks
