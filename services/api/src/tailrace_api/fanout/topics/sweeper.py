"""Write new blocks of a ring to the followers of its topic, in sweeps.

A sweep brings each follower up to the ring's edge at the time of its turn. Commits that arrive
during a sweep are joined to those that are still to be written, so under load the number of writes
falls. Commits that are not urgent wait, for a short time, for those that are.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import Final, Protocol

from tailrace_api.dialects.encoding import EncodedCommit
from tailrace_api.fanout.runtime.limits import RingBounds
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.topics.memory_budget import MemoryAccount
from tailrace_api.fanout.topics.ring import Ring

# Sweeps shorter than this follow one another without a pause.
_SHORT_SWEEP_S: Final = 0.001
_MAX_PAUSE_S: Final = 0.01
# The part of a ring's capacity that may be unswept before a sweep is forced.
_MAX_UNSWEPT: Final = 0.5


class Follower(Protocol):
    """A reader of a topic's ring. Connections implement it; topics must not depend on them."""

    def on_ring_ready(self) -> None:
        """Handle that the topic has a ring."""

    def serve(self) -> bool:
        """Read a batch from the ring; return whether to be called again in this sweep."""

    def end(self, reason: str) -> None:
        """End the stream."""


class Sweeper:
    """Schedules and runs the sweeps of one topic.

    Args:
        followers: the topic's followers; the topic changes the set.

    Attributes:
        unswept_times: the times at which unswept live commits were stored, to measure lag.
    """

    def __init__(
        self,
        runtime: StreamRuntime,
        followers: set[Follower],
        account: MemoryAccount,
        bounds: RingBounds,
    ) -> None:
        self.unswept_times: list[float] = []
        self._scheduler = runtime.scheduler
        self._counts = runtime.counts
        self._lazy_interval = runtime.times.lazy_interval
        self._followers = followers
        self._account = account
        self._bounds = bounds
        self._ring: Ring | None = None
        # Fires when commits that are not urgent have waited long enough.
        self._lazy_sweep: asyncio.TimerHandle | None = None
        # The unswept part of the ring, relative to its capacity.
        self._unswept = 0.0
        self._is_sweeping = False
        # Whether the ring has grown since the current sweep began.
        self._has_grown = False

    @property
    def is_idle(self) -> bool:
        """Whether no sweep is running or planned."""
        return not self._is_sweeping and self._lazy_sweep is None

    @property
    def is_overrun(self) -> bool:
        """Whether a running sweep is about to be overtaken by the ring's eviction."""
        return self._is_sweeping and self._unswept > _MAX_UNSWEPT

    def note_append(self, ring: Ring, commit: EncodedCommit, *, is_execution: bool) -> bool:
        """Plan the sweep for an appended commit; return whether it runs at once."""
        self._ring = ring
        self._unswept += max(
            len(commit.indexes) / self._bounds.events, len(commit.chunk) / self._bounds.bytes
        )
        is_shown = bool(commit.chunk) or is_execution
        # Without room in the budget, commits are not kept waiting either.
        is_urgent = commit.is_urgent or bool(self._account.refusal)
        if (is_shown and is_urgent) or self._unswept > _MAX_UNSWEPT:
            self._sweep_soon()
            return True
        if self._lazy_sweep is None:
            loop = asyncio.get_running_loop()
            self._lazy_sweep = loop.call_later(self._lazy_interval, self._sweep_soon)
        return False

    def cancel_lazy_sweep(self) -> None:
        if self._lazy_sweep is not None:
            self._lazy_sweep.cancel()
            self._lazy_sweep = None

    def end_all(self, reason: str) -> None:
        for follower in tuple(self._followers):
            follower.end(reason)

    def _sweep_soon(self) -> None:
        self._has_grown = True
        self.cancel_lazy_sweep()
        if not self._is_sweeping:
            self._is_sweeping = True
            self._scheduler.add(self._sweep())

    def _sweep(self) -> Iterator[None]:
        try:
            while self._has_grown:
                self._has_grown = False
                stored_times, self.unswept_times = self.unswept_times, []
                covered, started_at = self._unswept, time.perf_counter()
                edge = self._ring.edge if self._ring else 0
                yield from self._serve_all()
                self._unswept -= covered
                if self._ring and self._account.refusal:
                    # Only up to the edge at the start: followers served early in this sweep have
                    # not been sent what was appended later.
                    self._ring.evict_through(edge)
                self._observe_lag(stored_times)
                took = time.perf_counter() - started_at
                if self._has_grown and took > _SHORT_SWEEP_S:
                    self._pause(took)
                    return
            self._is_sweeping = False
        except Exception:
            # A bug here must not leave clients with heartbeats and no events.
            self.end_all("failed")
            raise

    def _pause(self, took: float) -> None:
        # Commits arrive faster than sweeps run. Without a pause, every few commits would cost a
        # system call per client; a pause as long as the sweep halves that.
        loop = asyncio.get_running_loop()
        loop.call_later(min(took, _MAX_PAUSE_S), lambda: self._scheduler.add(self._sweep()))

    def _serve_all(self) -> Iterator[None]:
        behind = list(self._followers)
        while behind:
            # Followers that need more than one batch wait until the others have had one.
            still_behind = []
            for follower in behind:
                if follower.serve():
                    still_behind.append(follower)
                yield
            behind = still_behind

    def _observe_lag(self, stored_times: list[float]) -> None:
        now = time.time()
        for stored_at in stored_times:
            # The clocks of two machines differ: a negative lag counts as none.
            self._counts.lag.observe(max(now - stored_at, 0.0))
