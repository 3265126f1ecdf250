"""A topic: a part of the log in one dialect, as long as somebody follows it.

Live commits are encoded once into the topic's ring, in order and without a gap. What makes that
true is one task, the keeper. It subscribes, then asks the log for its newest commit, from which
the ring begins. A live commit before which nothing can be missing is appended at once; any other
only says that the log is further on, and the keeper reads up to there. So what was lost on the way
(Core NATS delivers at most once) and what came too early are one case, and live commits need no
buffer of their own.

What is in the ring is written to the followers in sweeps. A sweep takes every follower as far as
the ring goes when its turn comes: commits that arrive during a sweep are joined to those that are
still to be written, so the more there is to do, the fewer writes it takes.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

import structlog

from tailrace_api.fanout.counts import Counts
from tailrace_api.fanout.ring import Ring
from tailrace_api.fanout.source import LiveCommit, LiveSource
from tailrace_api.fanout.turns import Turns
from tailrace_api.fanout.view import View
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.execution_log import ExecutionLog

_PAUSE: Final = 0.25
# Sweeps that are shorter than this, in seconds, follow one another at once; after a longer one
# there is a pause, but never a long one.
_SHORT: Final = 0.001
_LONGEST_REST: Final = 0.01

_log = structlog.get_logger("tailrace.api.fanout")


class Follower(Protocol):
    """Whoever takes from a topic's ring."""

    def ready(self) -> None:
        """Learn that the topic has a ring."""

    def serve(self) -> bool:
        """Take something from the ring; returns whether there is more that it takes now."""

    def end(self, reason: str) -> None:
        """Follow no more."""


class RingBounds(NamedTuple):
    """How much a ring may hold."""

    events: int
    bytes: int


class Topic:
    """The live end of a part of the log.

    Attributes:
        view: what it shows.
        epoch: the epoch of the log.
        followers: whom it serves.
        ring: None until the topic knows where the log ends.
    """

    def __init__(
        self, view: View, epoch: str, bounds: RingBounds, turns: Turns, counts: Counts
    ) -> None:
        self.view = view
        self.epoch = epoch
        self.followers: set[Follower] = set()
        self.ring: Ring | None = None
        self._bounds = bounds
        self._turns = turns
        self._counts = counts
        # The highest sequence that the log is known to reach.
        self._known = 0
        self._behind = asyncio.Event()
        self._closed = False
        # Whether a sweep is under way, and whether the ring has grown since it began.
        self._is_sweeping = False
        self._has_grown = False
        self._fresh: list[float] = []

    def receive(self, commit: LiveCommit) -> None:
        """Take a live commit."""
        ring = self.ring
        if ring is None:
            self.reach(commit.sequence)
        elif commit.sequence > ring.edge:
            if self._is_next(commit, ring.edge):
                self._append(ring, commit.execution, commit.sequence, commit.payload)
                self._fresh.append(commit.stored_at)
                self._sweep_soon()
            else:
                self.reach(commit.sequence)

    def _is_next(self, commit: LiveCommit, edge: int) -> bool:
        if self.view.part.execution:
            return commit.previous <= edge
        # The predecessor is that of the commit's own execution. What other executions of the
        # tenant may have had in between only the log can tell, unless there is no between.
        return commit.sequence == edge + 1

    def reach(self, sequence: int) -> None:
        """Learn that the log reaches at least to ``sequence``."""
        if sequence > self._known:
            self._known = sequence
            self._behind.set()

    def close(self) -> None:
        """Make the keeper give everything back and end."""
        self._closed = True
        self._behind.set()

    def end(self, reason: str) -> None:
        """End the streams of all followers."""
        for follower in tuple(self.followers):
            follower.end(reason)

    async def keep(self, source: LiveSource, log: ExecutionLog, subject: str) -> None:
        """Keep the ring complete until the topic is closed."""
        # Not to be cancelled while it subscribes: a subscription that nobody holds is a leak.
        if not await self._listen(source, subject):
            return
        try:
            while not self._closed:
                self._behind.clear()
                try:
                    await self._catch_up(log)
                except (UnavailableError, JetStreamError):
                    await asyncio.sleep(_PAUSE)
                    continue
                await self._behind.wait()
        finally:
            await source.leave(subject, self.receive)

    async def _listen(self, source: LiveSource, subject: str) -> bool:
        while not self._closed:
            try:
                await source.listen(subject, self.receive)
            except UnavailableError:
                await asyncio.sleep(_PAUSE)
            else:
                return True
        return False

    async def _catch_up(self, log: ExecutionLog) -> None:
        ring = self.ring or await self._begin(log)
        while ring.edge < self._known and not self._closed:
            self._counts.repairs += 1
            commits, _ = await log.page(self.view.part, ring.edge + 1)
            for commit in commits:
                # While the page was read, live commits may have closed the gap themselves.
                if commit.sequence > ring.edge:
                    self._append(ring, commit.execution, commit.sequence, commit.payload)
            if commits:
                self._sweep_soon()
            elif ring.edge < self._known:
                # A replica of the log that lags behind the one that republished.
                await asyncio.sleep(_PAUSE)

    async def _begin(self, log: ExecutionLog) -> Ring:
        newest = await log.newest(self.view.part)
        ring = Ring(
            self.epoch,
            newest.sequence - 1 if newest else 0,
            max_events=self._bounds.events,
            max_bytes=self._bounds.bytes,
        )
        if newest:
            # Clients that come back know this one; with it here they need no read.
            self._append(ring, newest.execution, newest.sequence, newest.payload)
        self.ring = ring
        for follower in self.followers:
            follower.ready()
        return ring

    def _append(self, ring: Ring, execution: str, sequence: int, payload: bytes) -> None:
        ring.append(self.view.encode(self.epoch, execution, sequence, payload))

    def _sweep_soon(self) -> None:
        self._has_grown = True
        if not self._is_sweeping:
            self._is_sweeping = True
            self._turns.add(self._sweep())

    def _sweep(self) -> Iterator[None]:
        try:
            while self._has_grown:
                self._has_grown = False
                fresh, self._fresh = self._fresh, []
                began = time.perf_counter()
                yield from self._serve_all()
                self._note_lag(fresh)
                took = time.perf_counter() - began
                if self._has_grown and took > _SHORT:
                    self._rest(took)
                    return
            self._is_sweeping = False
        except Exception:
            # A bug of ours must not leave clients with heartbeats and nothing else.
            self.end("failed")
            raise

    def _rest(self, took: float) -> None:
        # Commits come faster than sweeps go. Sweeping without a pause would be a system call for
        # each client and each few of them; a pause as long as a sweep halves that.
        loop = asyncio.get_running_loop()
        loop.call_later(min(took, _LONGEST_REST), lambda: self._turns.add(self._sweep()))

    def _serve_all(self) -> Iterator[None]:
        behind = list(self.followers)
        while behind:
            # Whoever gets more than a batch waits until the others have had theirs.
            still_behind = []
            for follower in behind:
                if follower.serve():
                    still_behind.append(follower)
                yield
            behind = still_behind

    def _note_lag(self, fresh: list[float]) -> None:
        now = time.time()
        for stored_at in fresh:
            # Clocks of two machines: what seems to be written before it was stored was not late.
            self._counts.lag.observe(max(now - stored_at, 0.0))
