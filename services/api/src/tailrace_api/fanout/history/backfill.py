"""Recounts: what a tenant's stream that is new is told of some executions, up to where it begins.

The log of an execution is read from its first commit to the place at which the stream begins, and
not beyond: what comes later comes with the stream.
"""

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence

from tailrace_api.dialects.dialect import ILLEGIBLE, without_id
from tailrace_api.fanout.history.replay import Replay
from tailrace_api.fanout.views.view import View
from tailrace_shared.nats.catch_up import until_caught_up
from tailrace_shared.stores.execution_log import Commit, ExecutionLog
from tailrace_shared.subjects import LogFilter


async def recounted(
    log: ExecutionLog, replay: Replay, view: View, execution: str, edge: int
) -> AsyncIterator[bytes]:
    """Yield what is told of an execution's commits up to a sequence, in whole blocks.

    Raises:
        UnavailableError: NATS did not answer, or no replica that is up to date.
    """
    part = LogFilter(view.part.tenant, execution)
    newest = await log.newest(part)
    if newest is None:
        yield without_id(view.dialect.recount(execution, None))
        return
    last = 0

    async def read() -> Sequence[Commit]:
        return await replay.commits(part, last + 1)

    # That of the newest commits up to there none is missing, only a later one shows.
    while last < newest.sequence and last < edge:
        commits = await until_caught_up(read, bool, f"execution {execution!r}")
        last = commits[-1].sequence
        yield _told(view, execution, (each for each in commits if each.sequence <= edge))


def _told(view: View, execution: str, commits: Iterable[Commit]) -> bytes:
    blocks: list[bytes] = []
    for commit in commits:
        if not commit.is_newer or view.dialect.is_verbatim:
            # Somebody else writes to our log. What is legible is still worth telling.
            with contextlib.suppress(*ILLEGIBLE):
                blocks.append(without_id(view.dialect.recount(execution, commit.payload)))
    return b"".join(blocks)
