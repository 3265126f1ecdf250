"""A connection: one client's cursor into a part of the log.

It owns no events. What it has not had yet lies in the topic's ring or, below the ring's floor, in
the log. A client that does not take what it was given gets no more until it has; then it goes on
from the ring. One that the ring has left behind, or that takes nothing for too long, is closed,
and comes back with its last id. So a slow client costs one batch, and holds back nobody.

A stream begins with history. When that runs out and the execution has not ended, the connection
joins the topic, and reads history once more up to the floor of the topic's ring: what was
committed before the topic subscribed is below the floor, everything else is in the ring. A
connection whose place is in the ring already needs no history. One that is new to a tenant begins
at the ring's edge, with a snapshot of the topic's state if the dialect has one.

From then on it is live: it has no task, no queue and no timer. The topic's sweeps, the timer wheel
and its outlet call it, and each call does one small thing.
"""

import asyncio
import random
from typing import TYPE_CHECKING, Final

from tailrace_api.dialects.dialect import reset
from tailrace_api.fanout.clients.client_writer import ClientWriter
from tailrace_api.fanout.history.resume import Start
from tailrace_api.fanout.topics.memory_budget import TopicRefusedError
from tailrace_api.fanout.topics.ring import Ring
from tailrace_api.fanout.topics.topic import Topic
from tailrace_api.fanout.views.batch import Batch
from tailrace_api.fanout.views.view import View
from tailrace_api.sse import frame
from tailrace_api.sse.chunk import chunk
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.position import StreamPosition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailrace_api.fanout.hub import Hub

_PATIENCE: Final = 4
_PAUSE: Final = 0.25
# A heartbeat comes a little before it is due, for each client at another time: after a broadcast
# all of them have been silent equally long.
_EARLIEST: Final = 0.8
# What a client is told whose token has expired.
_EXPIRED: Final = frame.event(b"{}", name="stream:auth-expired")
# Ends after which a client has no reason to come back.
_FINAL: Final = frozenset({"finished", "gone"})


class ClientConnection:
    """One stream of one client.

    Attributes:
        view: what it shows.
        due: the wheel's.
        slot: the wheel's.
    """

    # Ten thousand of these live at once.
    __slots__ = (
        "_backlog",
        "_beat_at",
        "_ends_at",
        "_fruitless",
        "_held",
        "_hub",
        "_index",
        "_is_fresh",
        "_is_lost",
        "_is_slow",
        "_moved_at",
        "_outlet",
        "_reason",
        "_replayed",
        "_ring",
        "_seen",
        "_sequence",
        "_told",
        "_topic",
        "_until",
        "_waiter",
        "due",
        "slot",
        "view",
    )

    def __init__(
        self,
        hub: "Hub",
        view: View,
        start: Start,
        outlet: "ClientWriter",
        until: float | None = None,
    ) -> None:
        self.view = view
        self.due = 0.0
        self.slot = -1
        self._hub = hub
        self._outlet = outlet
        # The next event to send: of this commit or a later one, and of this commit from here on.
        self._sequence, self._index = start.sequence, start.index
        # Whether it is to begin at the topic's edge, wherever that is.
        self._is_fresh = start.is_fresh
        # How far the client has come, and what of that it has been told on this connection.
        self._seen: StreamPosition | None = start.seen
        self._told: StreamPosition | None = None
        self._topic: Topic | None = None
        # Once it is live: what it takes from.
        self._ring: Ring | None = None
        # Why the stream has ended; empty while it has not.
        self._reason = ""
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None
        self._fruitless = 0
        # Events of history that it was given; None if it needed none.
        self._replayed: int | None = None
        # When something was written or taken, and what was left to take then.
        self._moved_at = hub.now()
        self._backlog = 0
        # What it was given last, if it has yet to take that.
        self._held = b""
        self._is_slow = False
        # When there was a heartbeat, where they are regular.
        self._beat_at = self._moved_at
        self._until = until
        self._ends_at = hub.end_of_age()
        if until is not None:
            self._ends_at = min(self._ends_at, hub.now() + until - hub.wall())

    async def run(self, start: Start) -> None:
        """Write the stream up to where it is live; it goes on by itself from there.

        Returns when the stream is live or has ended.
        """
        if self._is_lost:
            return
        self._hub.wheel.schedule(self, self._next_check())
        # Some clients (httpx-sse) begin each connection without an id: those that are cut right
        # after the greeting would forget where they were.
        place = b""
        if start.seen and not start.reset:
            self._told = start.seen
            place = frame.position(str(start.seen))
        opening = frame.retry(self._hub.retry_milliseconds()) + place
        opening += self.view.greeting(self._milliseconds())
        self._write(chunk(opening + start.reset))
        if start.is_gone:
            self.end("gone")
        try:
            while not (self._ring or self._reason):
                await self._step()
        except (UnavailableError, JetStreamError):
            # The client comes back with its last id, perhaps to a replica that reaches NATS.
            self.end("unavailable")
        except TopicRefusedError as error:
            self._hub.counts.refused[error.reason] += 1
            self.end(error.reason)
        if self._replayed is not None:
            self._hub.counts.depth.observe(self._replayed)

    async def _step(self) -> None:
        topic = self._topic = self._topic or self._join()
        ring = topic.ring if topic else None
        if self._outlet.is_paused or (topic and ring is None):
            await self._wait()
        elif topic is None or ring is None:
            await self._replay(None)
        elif self._is_fresh:
            await self._open(topic, ring)
        elif self._sequence >= ring.floor:
            self._ring = ring
            self._hub.turns.add(self._catch_up())
        elif self.view.dialect.is_cumulative:
            await self._rewind(topic)
        else:
            await self._replay(ring)

    def _join(self) -> Topic | None:
        if self._is_fresh or self.view.dialect.is_cumulative:
            return self._hub.join(self.view, self)
        return self._hub.join_at(self.view, self._sequence, self)

    async def _open(self, topic: Topic, ring: Ring) -> None:
        """Begin at the ring's edge."""
        await self._hub.look_again(topic)
        if not await self._is_clear():
            return
        self._is_fresh = False
        self._sequence, self._index = ring.edge + 1, 0
        edge, end = ring.edge, ring.end
        opening = topic.opening(self._milliseconds())
        for execution in self.view.dialect.recounted:
            async for blocks in self._hub.recounted(self.view, execution, edge):
                if not await self._is_clear():
                    return
                self._write_held(opening)
                opening = chunk(blocks)
        if await self._is_clear():
            # Not before: who is cut while being told what was must be told it again.
            self._seen = self._told = end
            self._write_held(opening + chunk(frame.position(str(end))))

    async def _is_clear(self) -> bool:
        """Wait until the client has taken everything; returns whether it is to get more."""
        while self._outlet.is_paused and not self._reason:
            await self._wait()
        return not self._reason

    async def _rewind(self, topic: Topic) -> None:
        missed = await self._hub.missed(topic, self._sequence, self._index)
        if self._reason or self._outlet.is_paused:
            return  # a heartbeat has come between
        if missed is None:
            self._write(chunk(reset("expired", None)))
            self._hub.counts.resets += 1
            self._is_fresh = True
        else:
            self._replayed = (self._replayed or 0) + missed.events
            self._give(missed)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
        self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _replay(self, ring: Ring | None) -> None:
        epoch = self._topic.epoch if self._topic else self._hub.epoch
        page = await self._hub.replay.page(self.view, epoch, self._sequence, self._index)
        if self._reason or self._outlet.is_paused:
            return  # a heartbeat has come between
        if page.batch is not None:
            self._replayed = (self._replayed or 0) + page.batch.events
            self._give(page.batch)
        if page.more or self._reason:
            return
        if self._topic is None:
            self._topic = self._hub.join(self.view, self)
        elif ring is not None and page.batch is None:
            await self._skip_to(ring.floor)

    async def _skip_to(self, floor: int) -> None:
        # What precedes the floor was in the log. Either it is there no more, or a replica that is
        # not quite up to date has answered; that one gets time.
        newest = await self._hub.log.newest(self.view.part)
        if newest is None or newest.sequence < self._sequence:
            self._sequence, self._index, self._fruitless = max(floor, self._sequence), 0, 0
        elif self._fruitless < _PATIENCE:
            self._fruitless += 1
            await asyncio.sleep(_PAUSE)
        else:
            raise UnavailableError("the replica of the log that answers is not up to date")

    def ready(self) -> None:
        """Learn that the topic has a ring."""
        self._wake()

    def serve(self) -> bool:
        """Write a batch from the ring; returns whether there is more that the client takes."""
        ring = self._ring
        if ring is None or self._outlet.is_paused or self._sequence > ring.edge:
            return False
        if self._sequence < ring.floor:
            self.end("lagged")
            return False
        self._give(ring.batch(self._sequence, self._index))
        return self._sequence <= ring.edge

    def _catch_up(self) -> "Iterator[None]":
        while self.serve():
            yield
        if not self._outlet.is_paused and not self._reason and (priming := self._priming()):
            self._write(chunk(priming))

    def _give(self, batch: Batch) -> None:
        self._sequence, self._index = batch.next_sequence, 0
        if batch.seen is not None:
            self._seen = batch.seen
        if batch.told is not None:
            self._told = batch.told
            counts = self._hub.counts
            counts.events += batch.events
            counts.writes += 1
            counts.written_bytes += len(batch.wire)
            self._write_held(batch.wire)
        if batch.is_last:
            self.end("finished")

    def _hold(self, wire: bytes) -> None:
        self._held = wire
        if not self._hub.backlog.hold(wire):
            # Slow clients together hold too much: this one gets the rest from the log.
            self._cut("overloaded")

    def _write_held(self, wire: bytes) -> None:
        if wire:
            self._write(wire)
        if self._outlet.is_paused:
            self._hold(wire)

    def _write(self, wire: bytes) -> None:
        self._moved_at = self._hub.now()
        self._outlet.write(wire)

    def _milliseconds(self) -> int:
        return int(self._hub.wall() * 1000)

    def _priming(self) -> bytes:
        if self._seen is None or self._seen == self._told:
            return b""
        self._told = self._seen
        return frame.position(str(self._seen))

    def paused(self) -> None:
        """Learn that the client does not keep up."""
        hub = self._hub
        self._is_slow = True
        self._backlog = self._outlet.backlog
        hub.counts.slow += 1
        hub.counts.stalls += 1
        if self.slot >= 0 and (deadline := self._moved_at + hub.times.stall) < self.due:
            hub.wheel.schedule(self, deadline)

    def resumed(self) -> None:
        """Learn that the client has taken everything."""
        self._keeps_up()
        self._wake()
        if self.slot >= 0 and (due := self._next_check()) < self.due:
            # It was the deadline of a client that takes nothing; heartbeats come sooner.
            self._hub.wheel.schedule(self, due)
        if self._ring:
            self._hub.turns.add(self._catch_up())

    def _keeps_up(self) -> None:
        if self._is_slow:
            self._is_slow = False
            self._hub.counts.slow -= 1
        if self._held:
            self._hub.backlog.release(self._held)
            self._held = b""

    def lost(self) -> None:
        """Give back everything."""
        self._is_lost = True
        self._keeps_up()
        self._stop(self._reason or "left")
        self._hub.forget(self)
        self._hub.counts.closed[self._reason] += 1

    def check(self) -> None:
        """Do what is due, and say when the next thing will be."""
        if self._is_lost:
            return
        now, times = self._hub.now(), self._hub.times
        if self._reason or self._outlet.is_paused:
            backlog = self._outlet.backlog
            if backlog < self._backlog:
                # Slow is not stalled.
                self._moved_at, self._backlog = now, backlog
            elif now >= self._moved_at + times.stall:
                self._cut("stalled")
                return
        elif now >= self._beat_is_due(_EARLIEST):
            self._beat(now)
        if now >= self._ends_at:
            self.end("aged" if self._until is None or self._hub.wall() < self._until else "expired")
        self._hub.wheel.schedule(self, self._next_check())

    def _beat(self, now: float) -> None:
        self._beat_at = now
        self._write(chunk(self.view.dialect.heartbeat(self._milliseconds()) + self._priming()))

    def _beat_is_due(self, share: float) -> float:
        dialect = self.view.dialect
        interval = self._hub.times.heartbeat * dialect.heartbeat_factor
        if dialect.is_regular:
            return self._beat_at + interval
        return self._moved_at + interval * share

    def _next_check(self) -> float:
        if self._reason:
            return self._moved_at + self._hub.times.stall
        if self._outlet.is_paused:
            return min(self._moved_at + self._hub.times.stall, self._ends_at)
        share = random.uniform(_EARLIEST, 1)  # noqa: S311 - spreads, hides nothing
        return min(self._beat_is_due(share), self._ends_at)

    def end(self, reason: str) -> None:
        """End the stream in good order: the client gets its place and a delay."""
        if self._reason:
            return
        last = self._priming()
        if reason == "expired":
            last += _EXPIRED
        if reason not in _FINAL:
            last += frame.retry(self._hub.retry_milliseconds())
        self._stop(reason)
        self._outlet.end(chunk(last))

    def abort(self) -> None:
        """Cut the client off."""
        self._cut("cut")

    def _cut(self, reason: str) -> None:
        self._stop(self._reason or reason)
        self._outlet.abort()

    def _stop(self, reason: str) -> None:
        self._reason = reason
        self._ring = None
        if self._topic is not None:
            self._hub.leave(self._topic, self)
            self._topic = None
        self._wake()
