"""Pulls messages for one Dramatiq consumer. Lives on the loop.

A queue is one *lane*, or three if it has classes: high, normal, low. A lane is a durable JetStream
consumer that all workers share. Two kinds of request are made of it:

- A *probe* asks for as many messages as there is room for and is answered at once: with messages,
  or with the news that there are no more. Only one is under way at a time, and it goes to the
  first lane that is not known to be empty; so a lower class is asked only when the higher are
  empty.
- A *standing* request is left at every lane that a probe has found empty. Its answer is the next
  message to arrive there, and the end of that knowledge.

So nothing is asked for that there is no room for, except that a queue with classes may get one
message for each class at the same moment.

While messages are short, a round trip for every few of them would cost more than they do. So the
puller also keeps a *surplus*: as many as the consumer got through in the last twentieth of a
second. It is handed on the moment that there is room; and should the consumer stall, because long
messages follow upon short ones, it is given back, so that no idle worker waits for it.

Where consumers share their room, a message may still come to a standing request when another
queue has taken the last of it. It is a surplus as well: it runs as soon as anything ends here, or
is given back. And nothing is left standing by those who have no room.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import nats.errors
from dramatiq.logging import get_logger
from nats.aio.msg import Msg

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.nats.topology import JOBS
from tailrace_worker.broker.delivery import STALL, Delivery, Throughput
from tailrace_worker.broker.link.wire import NAK, Outgoing, is_delivery

if TYPE_CHECKING:
    from tailrace_worker.broker.link.connection import Connection

#: How long a standing request waits on the server.
_EXPIRES: Final = 5.0
#: Silence after which a request is taken for lost.
_LOST_AFTER: Final = 2.0
#: Room for few messages is offered only after a moment, in which there may come to be more.
_GATHER: Final = 0.002
_RETRY: Final = 0.2
#: What has been given back so often, by worker after worker, waits where it is.
_MOST_RETURNS: Final = 5
_NO_MESSAGES: Final = "404"
_EXPIRED: Final = "408"


class PullOptions(NamedTuple):
    """What one consumer wants.

    Attributes:
        queue: the queue's name.
        consumers: the configuration of its JetStream consumers, the most urgent first.
        prefetch: the most messages it has at once, running ones included.
        shared: whether ``prefetch`` is meant for all consumers of this process together.
    """

    queue: str
    consumers: Sequence[dict[str, Any]]
    prefetch: int
    shared: bool


class _PriorityConsumer:
    """One JetStream consumer, and the requests made of it."""

    def __init__(self, index: int, stream: str, config: dict[str, Any]) -> None:
        self.index = index
        self.config = config
        self.subject: str = config["filter_subject"]
        name = config["durable_name"]
        self.next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self.create = f"CONSUMER.CREATE.{stream}.{name}.{self.subject}"
        self.standing = 0
        self.lost_at = 0.0


class Puller:
    """Keeps one consumer supplied with messages of its queue.

    Args:
        connection: the connection to pull over.
        options: what the consumer wants.
        deliver: called on the loop with each message to be run.
    """

    def __init__(
        self,
        connection: "Connection",
        options: PullOptions,
        deliver: Callable[[Delivery], None],
    ) -> None:
        stream = connection.subjects.stream(JOBS)
        self._connection = connection
        self._options = options
        self._deliver = deliver
        self._counts = connection.counts[options.queue]
        self._stream = stream
        self._lanes = [
            _PriorityConsumer(i, stream, config) for i, config in enumerate(options.consumers)
        ]
        self._lane_of = {lane.subject: lane for lane in self._lanes}
        self._probed: _PriorityConsumer | None = None
        self._probe_left = 0
        self._given = 0
        self._surplus: deque[Delivery] = deque()
        self._pace = None if options.shared else Throughput()
        self._gathering: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._generation = 0
        self._ready = False
        self._closing = False
        self._logger = get_logger(__name__, type(self))

    @property
    def given(self) -> int:
        """How many messages Dramatiq has."""
        return self._given

    async def start(self) -> None:
        """Create the JetStream consumers that are missing, and begin to pull."""
        await self._ensure_consumers()
        self._inbox, self._subscription = await self._connection.subscribe(self._receive)
        self._watching = asyncio.create_task(self._replace_lost_requests())
        self._connection.pullers.append(self)
        self._ready = True
        self.refill()

    async def close(self) -> None:
        """Stop pulling. What nobody has begun, or is still on its way here, is given back."""
        if self._closing:  # Dramatiq closes a consumer that failed, and again when it stops
            return
        self._closing = True
        self._connection.pullers.remove(self)
        self._watching.cancel()
        self._return_surplus()
        if self._connection.disconnected_at is not None:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            # The server drops our standing requests when nobody listens for their answers.
            await self._subscription.drain()

    def refill(self) -> None:
        """Ask for as much as there is room for."""
        if not self._ready or self._closing or self._probed or self._gathering:
            return
        room = self._room()
        if room >= self._worthwhile():
            self._probe(room)
        elif room > 0:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER, self._gathered)

    def resume(self) -> None:
        """Start over after a reconnect: requests died with the connection."""
        self._return_surplus()
        self._doubt()

    # Requests

    def _room(self) -> int:
        if self._options.shared:
            return self._options.prefetch - self._connection.acknowledgements.held
        surplus = 0 if self._pace is None else self._pace.surplus
        return self._options.prefetch + surplus - self._given - len(self._surplus)

    def _worthwhile(self) -> int:
        return max(1, min(self._options.prefetch, self._given) // 4)

    def _gathered(self) -> None:
        self._gathering = None
        if self._ready and not self._closing and not self._probed and self._room() > 0:
            self._probe(self._room())

    def _probe(self, room: int) -> None:
        for lane in self._lanes:
            if not lane.standing:
                self._probed, self._probe_left = lane, room
                self._ask(lane, "probe", {"batch": room, "no_wait": True}, _LOST_AFTER)
                return

    def _stand(self, lane: _PriorityConsumer) -> None:
        alone = len(self._lanes) == 1 and not self._options.shared
        lane.standing = max(1, self._room()) if alone else 1
        request = {"batch": lane.standing, "expires": int(_EXPIRES * 1e9)}
        self._ask(lane, "stand", request, _EXPIRES + _LOST_AFTER)

    def _ask(
        self, lane: _PriorityConsumer, kind: str, request: dict[str, Any], patience: float
    ) -> None:
        lane.lost_at = asyncio.get_running_loop().time() + patience
        reply = f"{self._inbox}.{self._generation}-{kind}-{lane.index}"
        self._connection.send(Outgoing(lane.next, msgspec.json.encode(request), reply))

    # Answers

    def _receive(self, message: Msg) -> None:
        if is_delivery(message.reply):
            self._arrived(message)
        else:
            self._ended(message.subject.rpartition(".")[2], message.headers or {})

    def _arrived(self, message: Msg) -> None:
        if self._closing:
            self._connection.send(Outgoing(message.reply, NAK))
            return
        delivery = Delivery(message, self._settled)
        if self._connection.acknowledgements.take(delivery):
            self._counts.delivered += 1
            self._counts.redelivered += delivery.deliveries > 1
            self._counts.in_flight += 1
            self._accept(delivery)
        lane = self._lane_of[message.subject]
        if lane is not self._probed:
            lane.standing = max(0, lane.standing - 1)
            if not lane.standing:
                self.refill()
        elif self._probe_left > 1:
            self._probe_left -= 1
        else:
            self._probed = None
            self.refill()

    def _ended(self, token: str, headers: dict[str, str]) -> None:
        generation, kind, index = token.split("-")
        if int(generation) != self._generation or self._closing:
            return
        lane = self._lanes[int(index)]
        status = headers.get("Status")
        if status == _NO_MESSAGES and kind == "probe":
            self._probed = None
            self._stand(lane)
            self.refill()
        elif status == _EXPIRED and kind == "stand" and self._room() > 0:
            # Still empty a moment ago, so there is nothing to probe for.
            self._stand(lane)
        elif status == _EXPIRED and kind == "stand":
            lane.standing = 0
        else:
            self._logger.debug("Pull ended: %s %s", status, headers.get("Description"))
            self._doubt()

    def _accept(self, delivery: Delivery) -> None:
        if self._may_run() or delivery.deliveries > _MOST_RETURNS:
            self._give(delivery)
        else:
            self._surplus.append(delivery)
            self._watch_for_stall()

    def _may_run(self) -> bool:
        if not self._options.shared:
            return self._given < self._options.prefetch
        given = sum(puller.given for puller in self._connection.pullers)
        return given < self._options.prefetch

    def _give(self, delivery: Delivery) -> None:
        self._given += 1
        delivery.given = True
        self._deliver(delivery)

    def _settled(self, delivery: Delivery) -> None:
        self._counts.in_flight -= 1
        if delivery.given:
            self._given -= 1
            if self._pace is not None:
                self._pace.count()
            # While NATS is away none is begun that NATS may give to somebody else on its return.
            if not self._options.shared:
                self._give_surplus()
        if self._options.shared:
            for puller in self._connection.pullers:
                puller.make_use_of_room()
        else:
            self.refill()

    # The surplus

    def make_use_of_room(self) -> None:
        """Run what waits here for room, or ask for more."""
        if self._may_run():
            self._give_surplus()
        self.refill()

    def _give_surplus(self) -> None:
        if self._surplus and self._connection.disconnected_at is None:
            self._give(self._surplus.popleft())

    def _watch_for_stall(self) -> None:
        if self._stall is None:
            self._stall = asyncio.get_running_loop().call_later(STALL, self._check_stall)

    def _check_stall(self) -> None:
        self._stall = None
        if self._pace is None or self._pace.has_stalled():
            self._return_surplus()
        if self._surplus:
            self._watch_for_stall()

    def _return_surplus(self) -> None:
        while self._surplus:
            self._connection.acknowledgements.hand_back(self._surplus.popleft())

    # Recovery

    async def _ensure_consumers(self) -> None:
        for lane in self._lanes:
            await self._connection.jetstream.api(
                lane.create, {"stream_name": self._stream, "config": lane.config}
            )

    def _doubt(self) -> None:
        # The consumer was deleted, or has no leader for the moment: make sure of it, then go on.
        if self._ready:
            self._ready = False
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while not self._closing:
            await asyncio.sleep(_RETRY)
            try:
                await self._ensure_consumers()
                break
            except (UnavailableError, JetStreamError) as error:
                self._logger.warning("The queue is not ready: %s", error)
        self._generation += 1
        self._probed = None
        for lane in self._lanes:
            lane.standing = 0
        self._ready = True
        self.refill()

    async def _replace_lost_requests(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOST_AFTER)
            for lane in self._lanes:
                if (lane is self._probed or lane.standing) and lane.lost_at < loop.time():
                    self._logger.debug("A pull request went unanswered.")
                    self._doubt()
