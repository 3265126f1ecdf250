"""The live end of the whole log: every commit of every tenant, in order and without a gap.

A process that streams tenants subscribes to all live commits once. The sequences of the log have no
gaps, so a missing commit shows as soon as the next one of any tenant arrives, and what other
tenants commit is no gap in a tenant's part. A gap is filled by one read for all tenants. Each
tenant's commits go to its tail (`tailrace_api.fanout.topics.tenant_tail`).

Core NATS delivers at most once. A commit that is lost at the very end shows when the hub compares
the edge with the log (`LiveLog.note_edge`).
"""

import asyncio
from typing import Final

import structlog

from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.live_subscription import LiveCommit, LiveSubscription
from tailrace_api.fanout.topics.tenant_tail import TenantTail
from tailrace_api.fanout.topics.topic import TopicSources
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.stores.log_records import Commit

_RETRY_S: Final = 0.25
_POLL_S: Final = 0.001
# A read that finds nothing for longer checks whether what is missing has been deleted.
_LONG_S: Final = 1.0
# Commits that arrive after a gap wait here for its repair.
_MAX_HELD: Final = 1024
_MAX_HELD_BYTES: Final = 16 * 1024 * 1024
# Beyond that, clients resume one by one, each with what it needs.
_MAX_GAP: Final = 16_384

_log = structlog.get_logger("tailrace.api.fanout")


class LiveLog:
    """The live commits of all tenants, from the moment at which it has begun.

    Attributes:
        edge: every commit up to this sequence has been passed to the tails.
        ready: set when the edge is known.
        is_closed: whether it takes no more commits.
    """

    def __init__(self, runtime: StreamRuntime, sources: TopicSources) -> None:
        self.edge = 0
        self.ready = asyncio.Event()
        self.is_closed = False
        self._runtime = runtime
        self._sources = sources
        self._tails: dict[str, TenantTail] = {}
        self._held: dict[int, LiveCommit] = {}
        # The highest sequence that the log is known to reach.
        self._known_edge = 0
        self._behind = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._tails)

    def add(self, tail: TenantTail) -> None:
        """Pass a tenant's commits to its tail from now on."""
        self._tails[tail.tenant] = tail

    def remove(self, tail: TenantTail) -> None:
        if self._tails.get(tail.tenant) is tail:
            del self._tails[tail.tenant]

    def close(self) -> None:
        """Stop the task."""
        self.is_closed = True
        self.ready.set()
        self._behind.set()
        self.wake()

    def receive(self, commit: LiveCommit) -> bool:
        """Take a live commit; return whether sweeps must run before rings evict unsent ones."""
        if not self.ready.is_set() or commit.sequence > self.edge + 1:
            self._hold(commit)
            self.note_edge(commit.sequence)
            return False
        return commit.sequence == self.edge + 1 and self._advance(commit)

    def _hold(self, commit: LiveCommit) -> None:
        """Keep a commit until those before it have come, if there is room."""
        size = sum(len(held.payload) for held in self._held.values())
        if len(self._held) < _MAX_HELD and size < _MAX_HELD_BYTES:
            self._held[commit.sequence] = commit

    def note_edge(self, sequence: int) -> None:
        """Note that the log reaches at least to ``sequence``."""
        if sequence > self._known_edge:
            self._known_edge = sequence
            if sequence > self.edge:
                self._behind.set()

    def lower_edge(self, sequence: int) -> None:
        """Go back to a sequence, because the log has lost what is above it."""
        self.edge = min(self.edge, sequence)
        self._known_edge = min(self._known_edge, sequence)
        self._held.clear()

    async def changed(self) -> None:
        """Wait until the edge, or that of a tail, has moved."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def wake(self) -> None:
        """Wake those that wait for a change."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _advance(self, commit: LiveCommit) -> bool:
        is_overrun = self._pass_on(commit)
        while self._held and (held := self._held.pop(self.edge + 1, None)):
            is_overrun |= self._pass_on(held)
        if self._waiters:
            self.wake()
        return is_overrun

    def _pass_on(self, commit: LiveCommit) -> bool:
        tail = self._tails.get(commit.tenant)
        is_overrun = tail is not None and tail.take(commit)
        # Not before: the tail's edge follows this one.
        self.edge = commit.sequence
        return is_overrun

    async def run(self, subscription: LiveSubscription, subject: str) -> None:
        """Pass all commits on until it is closed."""
        if not await self._subscribe(subscription, subject):
            return
        try:
            while not self.is_closed:
                self._behind.clear()
                try:
                    await self._catch_up()
                except (UnavailableError, JetStreamError):
                    await asyncio.sleep(_RETRY_S)
                    continue
                await self._behind.wait()
        finally:
            await subscription.unsubscribe(subject, self.receive)

    async def _subscribe(self, subscription: LiveSubscription, subject: str) -> bool:
        while not self.is_closed:
            try:
                await subscription.subscribe(subject, self.receive)
            except UnavailableError:
                await asyncio.sleep(_RETRY_S)
            else:
                return True
        return False

    async def _catch_up(self) -> None:
        if not self.ready.is_set():
            await self._begin()
        until = asyncio.get_running_loop().time() + _LONG_S
        while self.edge < self._known_edge and not self.is_closed:
            if self._known_edge - self.edge > _MAX_GAP:
                self._give_up("the gap is too large")
                return
            self._runtime.counts.repairs += 1
            if await self._repair():
                until = asyncio.get_running_loop().time() + _LONG_S
            elif asyncio.get_running_loop().time() < until:
                # The replica that answered lags behind the one that republished.
                await asyncio.sleep(_RETRY_S)
            elif await self._sources.log.find_next(self.edge + 1, from_leader=True) is None:
                self._give_up("the log has no more such commits")
                return
        self._held = {each: self._held[each] for each in self._held if each > self.edge}

    async def _begin(self) -> None:
        edge = await self._sources.log.edge()
        if edge.epoch != self._runtime.epoch:
            # Streams cannot be served before the hub has adopted the new epoch.
            self._runtime.reconcile_requested.set()
            raise UnavailableError("the log was recreated")
        self.edge = edge.last_sequence
        self.ready.set()
        self._held = {each: self._held[each] for each in self._held if each > self.edge}
        if first := self._held.pop(self.edge + 1, None):
            self._advance(first)

    async def _repair(self) -> bool:
        """Read commits that live delivery has lost; return whether there were any."""
        first = self.edge + 1
        page = await self._sources.log.page_of_all(first)
        for tenant, commit in page:
            if commit.sequence > first:
                # A replica holds a later commit, so those before are deleted.
                await self._end_torn(first)
            first = commit.sequence + 1
            # Live commits may have closed the gap meanwhile.
            if commit.sequence <= self.edge:
                continue
            is_overrun = self._advance(_live(tenant, commit))
            while is_overrun and not self.is_closed:
                # Followers that keep up must be sent what the ring would soon evict.
                await asyncio.sleep(_POLL_S)
                is_overrun = any(tail.is_overrun for tail in self._tails.values())
        return bool(page)

    async def _end_torn(self, first: int) -> None:
        """End the streams of tenants of which commits from a sequence on may be deleted.

        The clients reconnect, and each learns by its id whether it has missed events.
        """
        for tenant, tail in tuple(self._tails.items()):
            if await self._sources.horizons.of(tenant) >= first:
                tail.end_all("lagged")

    def _give_up(self, reason: str) -> None:
        """End all streams of tenants; the clients resume with their ids."""
        _log.warning("live log: ending streams", reason=reason, edge=self.edge)
        for tail in tuple(self._tails.values()):
            tail.end_all("lagged")
        self._known_edge = self.edge


def _live(tenant: str, commit: Commit) -> LiveCommit:
    return LiveCommit(
        commit.execution,
        commit.sequence,
        commit.previous or 0,
        commit.payload,
        commit.time,
        commit.workflow,
        commit.is_newer,
        tenant,
        commit.status_header,
    )
