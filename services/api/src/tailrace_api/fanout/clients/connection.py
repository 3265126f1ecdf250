"""The connection of one client, which is a cursor into a part of the log.

It owns no events. What it has not sent yet is in the topic's ring or, below the ring's floor, in
the log. A slow client is paused: it gets nothing until it has taken the last batch, then continues
from the ring. A client that the ring has overtaken, or that takes nothing for too long, is
disconnected and resumes with its last id. So a slow client costs one batch, and delays no other.

`tailrace_api.fanout.clients.opening` brings a connection to the ring. From then on it is live: it
has no task, no queue and no timer. The topic's sweeps, the timer wheel and the writer call it, and
each call does a small amount of work.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Final

import structlog

from tailrace_api.dialects.encoding import refused, with_last_id
from tailrace_api.fanout.clients.client_writer import ClientWriter
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.runtime.stream_runtime import StreamRuntime
from tailrace_api.fanout.runtime.wheel import WheelEntry
from tailrace_api.fanout.topics.merged_ring import MergedRing
from tailrace_api.fanout.topics.registry import TopicRegistry
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.topic import Topic
from tailrace_api.fanout.topics.topic_set import TopicSet
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import chunk
from tailrace_shared.position import StreamPosition

# Heartbeats are sent early by a random part of the interval: after a broadcast, all connections
# have been silent equally long.
_EARLIEST_HEARTBEAT: Final = 0.8
# A position is sent without an event only after so many commits of which nothing was shown. The
# replay of fewer costs less than a millisecond.
_FAR_COMMITS: Final = 1_000
# After these ends the client has no reason to reconnect, so it gets no retry delay.
_FINAL_REASONS: Final = frozenset({"finished", "gone"})
# After these ends the stream would not be opened again at once, so the client receives the reason.
_REFUSALS: Final = frozenset({"topics_full", "tenant_topics_full"})

_log = structlog.get_logger("tailrace.api.fanout")


class ClientConnection(WheelEntry):
    """One stream of one client.

    Args:
        until: when the client's token expires, in seconds since the Unix epoch; None for never.

    Attributes:
        ring: the ring to send from; None until the stream is live.
        sequence: the lowest sequence that the next event's commit can have.
        index: the index of the next event in the commit at exactly that sequence.
        last_seen: the position that the stream has passed.
        last_sent: the position that the client has received on this connection.
        reason: why the stream has ended; empty while it is open.
        is_lost: whether the way to the client is closed.
    """

    # Ten thousand of these live at once.
    __slots__ = (
        "_backlog",
        "_ends_at",
        "_heartbeat_at",
        "_held",
        "_is_slow",
        "_on_closed",
        "_progress_at",
        "_runtime",
        "_topics",
        "_until",
        "_waiter",
        "index",
        "is_lost",
        "last_seen",
        "last_sent",
        "reason",
        "ring",
        "sequence",
        "topic",
        "view",
        "writer",
    )

    def __init__(
        self,
        runtime: StreamRuntime,
        topics: TopicRegistry,
        on_closed: "Callable[[ClientConnection], None]",
        view: View,
        start: Start,
        writer: ClientWriter,
        until: float | None = None,
    ) -> None:
        super().__init__()
        self.view = view
        self.writer = writer
        self.topic: Topic | TopicSet | None = None
        self.ring: Ring | MergedRing | None = None
        self.sequence, self.index = start.sequence, start.index
        self.last_seen: StreamPosition | None = start.seen
        self.last_sent: StreamPosition | None = None
        self.reason = ""
        self.is_lost = False
        self._runtime = runtime
        self._topics = topics
        self._on_closed = on_closed
        self._waiter: asyncio.Future[None] | None = None
        # When the client was last sent something or took something, and the backlog at that time.
        self._progress_at = runtime.now()
        self._backlog = 0
        # The last piece that a slow client has not taken yet.
        self._held = b""
        self._is_slow = False
        # The last heartbeat, for dialects with regular ones.
        self._heartbeat_at = self._progress_at
        self._until = until
        self._ends_at = runtime.age_deadline()
        if until is not None:
            self._ends_at = min(self._ends_at, runtime.now() + until - runtime.wall())

    def watch(self) -> None:
        self._runtime.wheel.schedule(self, self._next_deadline())

    def go_live(self, ring: Ring | MergedRing) -> None:
        """Send from a ring from now on; it must hold everything from the cursor on."""
        self.ring = ring
        self._runtime.scheduler.add(self._catch_up())

    async def wait(self) -> None:
        """Wait until the topic has a ring, a slow client has caught up, or the stream has ended."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
        self._waiter = None

    @property
    def can_write(self) -> bool:
        """Whether the stream is open, and the client has taken everything."""
        return not (self.reason or self.writer.is_paused)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_ring_ready(self) -> None:
        self._wake()

    def serve(self) -> bool:
        """Send a batch from the ring; return whether to be called again in this sweep."""
        ring = self.ring
        if ring is None or self.writer.is_paused or self.sequence > (newest := ring.newest):
            return False
        if self.sequence < ring.floor:
            self.end("lagged")
            return False
        self.deliver(ring.batch(self.sequence, self.index))
        return self.sequence <= newest

    def _catch_up(self) -> Iterator[None]:
        while self.serve():
            yield

    def deliver(self, batch: Batch) -> None:
        """Send a batch and move the cursor past it."""
        if batch.first_sequence and not batch.previous < self.sequence <= batch.first_sequence:
            self._note_gap(batch)
        self.sequence, self.index = batch.next_sequence, 0
        if batch.last_seen is not None:
            self.last_seen = batch.last_seen
        if batch.last_shown is not None:
            self.last_sent = batch.last_shown
            counts = self._runtime.counts
            counts.events += batch.events
            counts.writes += 1
            counts.written_bytes += len(batch.wire)
            self.write_held(batch.wire)
        if batch.is_last:
            self.end("finished")

    def _note_gap(self, batch: Batch) -> None:
        """Report that a batch does not follow what the client has: a bug, which costs its events.

        The client cannot tell.
        """
        self._runtime.counts.gaps += 1
        _log.error(
            "stream has a gap",
            execution=self.view.part.execution,
            cursor=self.sequence,
            first=batch.first_sequence,
            previous=batch.previous,
        )

    def write_held(self, wire: bytes) -> None:
        """Write a piece, and hold it while the client has not taken it."""
        if wire:
            self.write(wire)
        if self.writer.is_paused:
            self._held = wire
            if not self._runtime.slow_clients.hold(wire):
                # Slow clients together exceed the limit: this one resumes from the log.
                self._disconnect("overloaded")

    def write(self, wire: bytes) -> None:
        """Write a piece, and restart the timeouts."""
        self._progress_at = self._runtime.now()
        self.writer.write(wire)

    def _far_position(self) -> bytes:
        """Return the block that moves the client past many commits that are not shown, if any."""
        self._see_edge()
        seen, sent = self.last_seen, self.last_sent
        if seen is None or sent is None or seen.sequence - sent.sequence < _FAR_COMMITS:
            return b""
        self.last_sent = seen
        return frame.position(str(seen))

    def _see_edge(self) -> None:
        """Note that the stream has passed what the topic does not show."""
        if self.ring is None or self.sequence <= self.ring.newest:
            return
        end = self.ring.end
        # The client may come from a replica that was ahead of this one.
        if self.last_seen is None or end > self.last_seen:
            self.last_seen = end

    def _heartbeat(self) -> bytes:
        self._see_edge()
        dialect, now = self.view.dialect, self._runtime.wall_milliseconds()
        heartbeat = dialect.heartbeat(now, str(self.last_seen or ""))
        if dialect.heartbeat_has_id:
            self.last_sent = self.last_seen
        return heartbeat + self._far_position()

    def on_paused(self) -> None:
        """Handle that the client is slow; the writer calls it during a write."""
        runtime = self._runtime
        self._is_slow = True
        self._backlog = self.writer.backlog
        runtime.counts.slow += 1
        runtime.counts.stalls += 1
        if self.slot >= 0 and (deadline := self._progress_at + runtime.times.stall) < self.due:
            runtime.wheel.schedule(self, deadline)

    def on_resumed(self) -> None:
        """Handle that a slow client has taken everything."""
        self._release()
        self._wake()
        if self.slot >= 0 and (due := self._next_deadline()) < self.due:
            # The wheel holds the stall deadline; the next heartbeat is earlier.
            self._runtime.wheel.schedule(self, due)
        if self.ring:
            self._runtime.scheduler.add(self._catch_up())

    def _release(self) -> None:
        if self._is_slow:
            self._is_slow = False
            self._runtime.counts.slow -= 1
        if self._held:
            self._runtime.slow_clients.release(self._held)
            self._held = b""

    def on_lost(self, *, is_stalled: bool = False) -> None:
        """Handle that the way to the client is closed, by either side; called once.

        Args:
            is_stalled: whether the kernel closed it, because the client acknowledged nothing.
        """
        self.is_lost = True
        self._release()
        self._stop(self.reason or ("stalled" if is_stalled else "left"))
        self._runtime.wheel.cancel(self)
        self._on_closed(self)
        self._runtime.counts.closed[self.reason] += 1

    def on_deadline(self) -> None:
        """Send what is due, disconnect a stalled client, and schedule the next deadline."""
        try:
            self._check_deadlines()
        except Exception:  # noqa: BLE001 - a bug in one stream must not affect the others
            _log.exception("stream failed")
            self.abort()

    def _check_deadlines(self) -> None:
        if self.is_lost:
            return
        now, times = self._runtime.now(), self._runtime.times
        if self.reason or self.writer.is_paused:
            backlog = self.writer.backlog
            if backlog < self._backlog:
                # The client is slow, but not stalled.
                self._progress_at, self._backlog = now, backlog
            elif now >= self._progress_at + times.stall:
                self._disconnect("stalled")
                return
        elif now >= self._heartbeat_due(_EARLIEST_HEARTBEAT):
            self._heartbeat_at = now
            self.write(chunk(self._heartbeat()))
        if now >= self._ends_at:
            is_aged = self._until is None or self._runtime.wall() < self._until
            self.end("aged" if is_aged else "expired")
        self._runtime.wheel.schedule(self, self._next_deadline())

    def _heartbeat_due(self, share: float) -> float:
        dialect = self.view.dialect
        interval = self._runtime.times.heartbeat * dialect.heartbeat_factor
        if dialect.is_regular:
            return self._heartbeat_at + interval
        return self._progress_at + interval * share

    def _next_deadline(self) -> float:
        if self.reason:
            return self._progress_at + self._runtime.times.stall
        if self.writer.is_paused:
            return min(self._progress_at + self._runtime.times.stall, self._ends_at)
        share = random.uniform(_EARLIEST_HEARTBEAT, 1)  # noqa: S311 - jitter
        return min(self._heartbeat_due(share), self._ends_at)

    def end(self, reason: str) -> None:
        """End the stream gracefully, with a retry delay unless the end is final."""
        if self.reason:
            return
        last, retry_ms = b"", self._runtime.retry_milliseconds()
        if reason not in _FINAL_REASONS:
            last = frame.retry(retry_ms)
        last += self._far_position()
        # Clients that forget their id with each connection get it again.
        sent = str(self.last_sent or "")
        if reason in _REFUSALS:
            last += with_last_id([refused(reason, retry_ms)], sent)
        if reason == "expired":
            last += frame.event(b"{}", name="stream:auth-expired", event_id=sent)
        self._stop(reason)
        self.writer.end(chunk(last), reusable=reason in _FINAL_REASONS)

    def abort(self) -> None:
        self._disconnect("cut")

    def _disconnect(self, reason: str) -> None:
        self._stop(self.reason or reason)
        self.writer.abort()

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.ring = None
        if self.topic is not None:
            self._topics.leave(self.topic, self)
            self.topic = None
        self._wake()
