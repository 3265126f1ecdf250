"""Read pages of history from the log, with single-flight reads and a short cache.

Ten thousand clients that lost one replica reconnect to another within seconds, most of them with
one of a few positions. Callers that request a page while it is being read, or shortly afterwards,
share that page. The content of a page never changes; only whether it was the last one does. So a
page with commits is shared with all callers. An empty page is shared only with callers that came
before it was read, because a commit may have been stored since.

A page is read when the client has received the one before, so a slow client holds one page. The
number of concurrent reads and the number of queued reads are limited. Beyond that, new streams are
refused and retry later.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.tenants.contexts import Contexts, contexts_of
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View
from tailrace_shared.errors import UnavailableError
from tailrace_shared.stores.execution_log import ExecutionLog
from tailrace_shared.stores.horizon_store import HorizonStore
from tailrace_shared.stores.log_records import Commit, LogEdge
from tailrace_shared.subjects import LogFilter

_MAX_CONCURRENT_READS: Final = 16
# Cache TTL of an answer: short, so that deletion of history is soon noticed.
_TTL_S: Final = 0.25
# Of small parts of history: thousands of clients that connect together take turns, so those that
# request the same come seconds apart.
_SMALL_TTL_S: Final = 3.0
_SMALL_BYTES: Final = 64 * 1024
_MAX_SMALL_BYTES: Final = 8 * 1024 * 1024

T = TypeVar("T")
LocatedCommit = tuple[str, str, Commit]
"""The tenant and the execution of a commit, and the commit."""


class Page(NamedTuple):
    """A page of commits.

    Attributes:
        batch: the commits; None if there are none.
        more: whether the log held more when the page was read.
        first: the sequence of the first commit.
        is_torn: whether commits that belong on the page may have been deleted.
    """

    batch: Batch | None
    more: bool
    first: int | None = None
    is_torn: bool = False


class ReplayBusyError(UnavailableError):
    """The limit of queued reads is reached."""


class Replay:
    """Reads and encodes pages of history.

    Args:
        log: the log.
        contexts: the contexts of executions.
        horizons: how far each tenant's history has been deleted.
        counts: counts the reads.
        max_waiting: queued reads, beyond which reads for new streams are refused.
    """

    def __init__(
        self,
        log: ExecutionLog,
        contexts: Contexts,
        horizons: HorizonStore,
        counts: Counts,
        max_waiting: int,
    ) -> None:
        self._log = log
        self._horizons = horizons
        self._contexts = contexts
        self._counts = counts
        self._max_waiting = max_waiting
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT_READS)
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}
        self._small_bytes = 0
        self._waiting = 0

    @property
    def reads(self) -> int:
        """The number of reads that are queued or running."""
        return self._waiting

    async def page(
        self, view: View, epoch: str, from_sequence: int, index: int = 0, *, is_new: bool = False
    ) -> Page:
        """Return the next page of a view.

        Args:
            view: the part of the log, and its dialect.
            epoch: the epoch of the log.
            from_sequence: the lowest sequence to return.
            index: the first event to return of the commit at exactly that sequence.
            is_new: whether the read is for a new stream, which may be refused.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """

        async def read() -> Page:
            commits, more = await self._log.page(view.part, from_sequence)
            # Read after the page: executions are deleted after the horizon has been raised.
            is_torn = await self.is_torn(view.part, from_sequence, index)
            if not commits:
                return Page(None, more, is_torn=is_torn)
            known = await contexts_of(view, self._contexts, commits)
            skipped = index if commits[0].sequence == from_sequence else 0
            encoded = [view.encode(epoch, commit, known[commit.execution]) for commit in commits]
            return Page(Batch.of(epoch, encoded, skipped), more, commits[0].sequence, is_torn)

        key = (view, epoch, from_sequence, index)
        return await self.read_shared(key, read, _is_volatile, is_new=is_new, size_of=_page_bytes)

    async def is_torn(self, part: LogFilter, sequence: int, index: int = 0) -> bool:
        """Return whether commits of a tenant may have been deleted from a cursor on.

        The log of an execution is deleted as a whole, so what is there of it has no gap.

        Raises:
            UnavailableError: NATS did not answer.
        """
        if part.execution:
            return False
        return is_before(sequence, index, await self._horizons.of(part.tenant))

    def forget(self) -> None:
        """Forget all answers, because the log has lost data."""
        self._tasks.clear()

    async def horizon(self, tenant: str) -> int:
        """Return the last sequence of a tenant that was deleted, or 0; it may be cached.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """

        async def read() -> int:
            return await self._horizons.of(tenant)

        return await self.read_shared(("horizon", tenant), read, lambda _: False, is_new=True)

    async def current_horizon(self, tenant: str) -> int:
        """Return the last sequence of a tenant that was deleted, or 0, as it is now.

        Raises:
            UnavailableError: NATS did not answer.
        """
        return await self._horizons.of(tenant)

    async def commits(self, part: LogFilter, from_sequence: int) -> Sequence[Commit]:
        """Return a page of commits of a part of the log; empty at its end.

        Raises:
            UnavailableError: NATS did not answer.
        """

        async def read() -> Sequence[Commit]:
            return (await self._log.page(part, from_sequence))[0]

        key = ("commits", part, from_sequence)
        return await self.read_shared(
            key, read, lambda commits: not commits, is_new=False, size_of=_commits_bytes
        )

    async def find_next(self, sequence: int) -> LocatedCommit | None:
        """Return the first commit from a sequence on with its tenant and execution, or None.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """

        async def read() -> LocatedCommit | None:
            return await self._log.find_next(sequence)

        return await self.read_shared(
            sequence, read, lambda found: found is None, is_new=True, size_of=_located_bytes
        )

    async def edge(self, at_least: int, *, is_new: bool) -> LogEdge:
        """Return where the log begins and ends; a cached edge if it reaches ``at_least``.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """

        async def read() -> LogEdge:
            return await self._log.edge()

        return await self.read_shared("edge", read, lambda edge: edge[2] < at_least, is_new=is_new)

    async def read_shared(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[T]],
        is_volatile: Callable[[T], bool],
        *,
        is_new: bool,
        size_of: Callable[[T], int] | None = None,
    ) -> T:
        """Return the result of a read: of one in flight or in the cache, or else of a new one.

        Args:
            key: identifies the read.
            read: performs it.
            is_volatile: whether a result may change soon, so it must not be cached.
            is_new: whether the read is for a new stream, which may be refused.
            size_of: returns the size of a result that never changes, in bytes. Small ones are
                cached for longer.

        Raises:
            UnavailableError: NATS did not answer, or too many reads are queued.
        """
        earlier: asyncio.Task[T] | None = self._tasks.get(key)
        if earlier is not None:
            answer = await asyncio.shield(earlier)
            if not is_volatile(answer):
                self._counts.shared_reads += 1
                return answer
        # Another caller that found the earlier answer volatile may have begun a new read already.
        later: asyncio.Task[T] | None = self._tasks.get(key)
        if later is not None and later is not earlier:
            self._counts.shared_reads += 1
            return await asyncio.shield(later)
        if is_new and self._waiting >= self._max_waiting:
            raise ReplayBusyError(f"{self._waiting} reads of history are queued")
        self._waiting += 1
        # A separate task: the first caller may be cancelled while others still wait.
        task = self._tasks[key] = asyncio.create_task(self._read(key, read, is_volatile, size_of))
        task.add_done_callback(_retrieve_error)
        return await asyncio.shield(task)

    async def _read(
        self,
        key: Hashable,
        read: Callable[[], Awaitable[T]],
        is_volatile: Callable[[T], bool],
        size_of: Callable[[T], int] | None,
    ) -> T:
        answer: T | None = None
        try:
            async with self._slots:
                self._counts.reads += 1
                answer = await read()
                return answer
        finally:
            self._waiting -= 1
            if answer is None or is_volatile(answer):
                self._tasks.pop(key, None)
            else:
                self._cache(key, size_of(answer) if size_of else _SMALL_BYTES + 1)

    def _cache(self, key: Hashable, size: int) -> None:
        loop = asyncio.get_running_loop()
        if size > _SMALL_BYTES or self._small_bytes + size > _MAX_SMALL_BYTES:
            loop.call_later(_TTL_S, self._tasks.pop, key, None)
        else:
            self._small_bytes += size
            loop.call_later(_SMALL_TTL_S, self._evict_small, key, size)

    def _evict_small(self, key: Hashable, size: int) -> None:
        self._small_bytes -= size
        self._tasks.pop(key, None)


def is_before(sequence: int, index: int, horizon: int) -> bool:
    """Return whether a cursor lies before a horizon, so that commits after it may be deleted.

    The commit at the horizon is the end of an execution. A cursor inside it has passed it.
    """
    return sequence < horizon or (sequence == horizon and index == 0)


def _commits_bytes(commits: Sequence[Commit]) -> int:
    return sum(len(commit.payload) for commit in commits)


def _located_bytes(found: LocatedCommit | None) -> int:
    return 0 if found is None else len(found[2].payload)


def _page_bytes(page: Page) -> int:
    return 0 if page.batch is None else len(page.batch.wire)


def _is_volatile(page: Page) -> bool:
    return page.batch is None


def _retrieve_error(task: asyncio.Task[Any]) -> None:
    # Retrieved, or asyncio would log an error that no caller waits for any more.
    if not task.cancelled():
        task.exception()
