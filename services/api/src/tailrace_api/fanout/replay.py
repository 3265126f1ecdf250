"""Replay: history from the log, by the page.

A page is read when the one before has been taken by the client, so a slow client holds one page
and no more. Only so many pages are read at once, so that ten thousand clients that come back
together make a queue here and not a storm at JetStream.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from tailrace_api.dialects.dialect import EncodedCommit
from tailrace_api.fanout.topic import View, encode
from tailrace_shared.execution_log import ExecutionLog

_READS_AT_ONCE: Final = 16


class Page(NamedTuple):
    """Some commits, and whether the log held more when they were read."""

    commits: Sequence[EncodedCommit]
    more: bool


class Replay:
    """Reads and encodes pages of history."""

    def __init__(self, log: ExecutionLog) -> None:
        self._log = log
        self._reads = asyncio.Semaphore(_READS_AT_ONCE)

    async def page(self, view: View, epoch: str, from_sequence: int) -> Page:
        """Return the next page of an execution from a sequence on.

        Raises:
            UnavailableError: NATS did not answer.
        """
        async with self._reads:
            commits, more = await self._log.page(view.tenant, view.execution, from_sequence)
        return Page(
            [encode(view, epoch, commit.sequence, commit.payload) for commit in commits], more
        )
