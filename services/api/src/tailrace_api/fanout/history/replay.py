"""Replay: history from the log, by the page, and read once for all who want the same.

Ten thousand clients that lost one replica come back to another within seconds, most of them to the
same few places. Whoever asks while a page is being read, or has just been read, gets that page.
What a page holds never changes; only that it was the last one does. So a page with commits may be
shared with everybody, but that there is nothing is believed only if it was asked after the asker
came: somebody may have written meanwhile.

A page is read when the one before has been taken by the client, so a slow client holds one page
and no more. Only so many pages are read at once, and only so many may be waited for: beyond that
new streams are told to come back later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import UnavailableError
from tailrace_shared.stores.execution_log import Commit, ExecutionLog, LogEdge
from tailrace_shared.subjects import LogFilter

_READS_AT_ONCE: Final = 16
# How long an answer is handed on after it came, in seconds: short enough that history which is
# deleted is soon seen to be.
_FRESH: Final = 0.25

T = TypeVar("T")
Found = tuple[str, str, Commit]


class Page(NamedTuple):
    """Some commits, and whether the log held more when they were read.

    Attributes:
        batch: the commits; None if there are none.
        more: whether there are more.
        first: the sequence of the first commit.
    """

    batch: Batch | None
    more: bool
    first: int | None = None


class ReplayBusyError(UnavailableError):
    """So many reads are waited for that another one is not begun."""


class Replay:
    """Reads and encodes pages of history.

    Args:
        log: what is read.
        contexts: what is known of executions.
        counts: where reads are counted.
        budget: how many reads may be waited for before a new stream is refused.
    """

    def __init__(self, log: ExecutionLog, contexts: Contexts, counts: Counts, budget: int) -> None:
        self._log = log
        self._contexts = contexts
        self._counts = counts
        self._budget = budget
        self._slots = asyncio.Semaphore(_READS_AT_ONCE)
        self._answers: dict[Hashable, asyncio.Task[Any]] = {}
        self._waiting = 0

    @property
    def reads(self) -> int:
        """How many reads are waited for."""
        return self._waiting

    async def page(
        self, view: View, epoch: str, from_sequence: int, index: int = 0, *, is_new: bool = False
    ) -> Page:
        """Return the next page of a view.

        Args:
            view: of what.
            epoch: the epoch of the log.
            from_sequence: the commit that is wanted next, or the lowest that it may be.
            index: the first event of that commit that is wanted.
            is_new: whether a new stream asks, which may be refused.

        Raises:
            UnavailableError: NATS did not answer, or the budget is used up.
        """

        async def read() -> Page:
            commits, more = await self._log.page(view.part, from_sequence)
            if not commits:
                return Page(None, more)
            known = await contexts_of(view, self._contexts, commits)
            skipped = index if commits[0].sequence == from_sequence else 0
            encoded = [view.encode(epoch, commit, known[commit.execution]) for commit in commits]
            return Page(Batch.of(epoch, encoded, skipped), more, commits[0].sequence)

        key = (view, epoch, from_sequence, index)
        return await self.shared(key, read, lambda page: page.batch is None, is_new=is_new)

    async def commits(self, part: LogFilter, from_sequence: int) -> Sequence[Commit]:
        """Return some commits of a part of the log from a sequence on; none if it ends there.

        Raises:
            UnavailableError: NATS did not answer.
        """

        async def read() -> Sequence[Commit]:
            return (await self._log.page(part, from_sequence))[0]

        key = ("commits", part, from_sequence)
        return await self.shared(key, read, lambda commits: not commits, is_new=False)

    async def find(self, sequence: int) -> Found | None:
        """Return the tenant, the execution and the commit at a sequence, or None.

        Raises:
            UnavailableError: NATS did not answer, or the budget is used up.
        """

        async def read() -> Found | None:
            return await self._log.find(sequence)

        return await self.shared(sequence, read, lambda found: found is None, is_new=True)

    async def edge(self, at_least: int) -> LogEdge:
        """Return where the log begins and ends; where it ended a moment ago, if that is enough.

        Raises:
            UnavailableError: NATS did not answer, or the budget is used up.
        """

        async def read() -> LogEdge:
            return await self._log.edge()

        return await self.shared("edge", read, lambda edge: edge[2] < at_least, is_new=True)

    async def shared(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[T]],
        is_nothing: Callable[[T], bool],
        *,
        is_new: bool,
    ) -> T:
        """Return an answer: one that is being read, or has just been, or else a new one.

        Args:
            key: what is asked.
            read: asks.
            is_nothing: whether an answer is one that may be another a moment later.
            is_new: whether a new stream asks, which may be refused.

        Raises:
            UnavailableError: NATS did not answer, or the budget is used up.
        """
        earlier: asyncio.Task[T] | None = self._answers.get(key)
        if earlier is not None:
            answer = await asyncio.shield(earlier)
            if not is_nothing(answer):
                self._counts.shared_reads += 1
                return answer
        # Whoever else found the earlier answer empty may have asked again already.
        later: asyncio.Task[T] | None = self._answers.get(key)
        if later is not None and later is not earlier:
            self._counts.shared_reads += 1
            return await asyncio.shield(later)
        if is_new and self._waiting >= self._budget:
            raise ReplayBusyError(f"{self._waiting} reads of history are waited for")
        self._waiting += 1
        # A task of its own: whoever asked first may leave before the others have their answer.
        task = self._answers[key] = asyncio.create_task(self._read(key, read, is_nothing))
        task.add_done_callback(_note_error)
        return await asyncio.shield(task)

    async def _read(
        self, key: Hashable, read: Callable[[], Awaitable[T]], is_nothing: Callable[[T], bool]
    ) -> T:
        answer: T | None = None
        try:
            async with self._slots:
                self._counts.reads += 1
                answer = await read()
                return answer
        finally:
            self._waiting -= 1
            if answer is None or is_nothing(answer):
                self._answers.pop(key, None)
            else:
                asyncio.get_running_loop().call_later(_FRESH, self._answers.pop, key, None)


def _note_error(task: asyncio.Task[Any]) -> None:
    # Asyncio would report an error that nobody waits for any more.
    if not task.cancelled():
        task.exception()
