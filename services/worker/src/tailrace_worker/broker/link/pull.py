"""Pulls messages for one Dramatiq consumer. Lives on the loop.

A queue has one durable JetStream consumer that all workers share, or three if it has priority
classes: high, normal, low. The puller sends them two kinds of pull request:

- A *probe* asks for as many messages as there are free slots. JetStream answers at once, with
  messages or with the news that there are no more. Only one probe is in flight at a time. It goes
  to the first consumer that is not known to be empty, so a lower class is asked only when the
  higher ones are empty.
- A *long poll* waits at every consumer that a probe has found empty. Its answer is the next message
  to arrive there, and means that the consumer is no longer known to be empty.

So the puller never asks for messages without a free slot, except that a queue with classes may get
one message of each class at the same moment.

A round trip for every few messages would cost more than short messages do. So the puller also keeps
a *surplus*: as many messages as the consumer finished in the last twentieth of a second. It
dispatches them as slots become free. If the consumer stalls, because long messages follow short
ones, the puller releases the surplus, so that idle workers can run it.

Where the consumers of a process share one prefetch limit, a long poll may still return a message
after another queue has taken the last slot. That message joins the surplus as well: it is
dispatched when any message of the process ends, or released. No long poll is renewed without a
free slot.

A message whose short delay is not over (``short_delays``) is held without a slot.

A queue may have a *gate*, which decides which messages may run here now, and moves the others
elsewhere. While it does, the puller asks for many more messages than there are free slots: those
behind them may run.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import nats.errors
from dramatiq.logging import get_logger
from nats.aio.msg import Msg

from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.process.log_throttle import LogThrottle
from tailrace_worker.broker.counts import QueueCounts
from tailrace_worker.broker.link.acknowledgements import Acknowledgements
from tailrace_worker.broker.link.delivery import Delivery
from tailrace_worker.broker.link.gate import Gate
from tailrace_worker.broker.link.link import Link
from tailrace_worker.broker.link.short_delays import seconds_left
from tailrace_worker.broker.link.throughput import STALL_S, Throughput
from tailrace_worker.broker.link.wire import NAK, Outgoing, is_delivery

#: How long a long poll waits on the server.
_LONG_POLL_S: Final = 5.0
#: Silence, beyond that, after which a request counts as lost.
_LOST_AFTER_S: Final = 2.0
#: A few free slots are probed for only after a moment, in which more may become free.
_COALESCE_S: Final = 0.002
_RETRY_S: Final = 0.2
#: A message that was delivered more often is not released again, but waits for a slot here.
_MAX_RELEASES: Final = 5
#: How many messages to pull beyond the free slots while a gate sets messages aside.
_SET_ASIDE_BATCH: Final = 256
_MAX_SET_ASIDE: Final = 1024
#: How long after a message was set aside to expect more.
_SETTING_ASIDE_S: Final = 0.1
_NO_MESSAGES: Final = "404"
_REQUEST_EXPIRED: Final = "408"
_PROBE: Final = "probe"
_LONG_POLL: Final = "poll"


class PullOptions(NamedTuple):
    """The settings of one puller.

    Attributes:
        consumers: the configuration of its JetStream consumers, the most urgent first.
        prefetch: the most messages to hold at once, running ones included.
        is_shared: whether ``prefetch`` limits all pullers of this process together.
        gate: admits messages; None if all may run.
    """

    queue: str
    stream: str
    consumers: Sequence[dict[str, Any]]
    prefetch: int
    is_shared: bool
    gate: Gate | None = None


class _PriorityConsumer:
    """One JetStream consumer and the state of the requests to it.

    Attributes:
        polled: how many messages its long poll may still return; 0 if there is no long poll.
        lost_at: when its newest request counts as lost, by the loop's clock.
    """

    def __init__(self, index: int, stream: str, config: dict[str, Any]) -> None:
        self.index = index
        self.config = config
        self.subject: str = config["filter_subject"]
        name = config["durable_name"]
        self.next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"
        self.create = f"CONSUMER.CREATE.{stream}.{name}.{self.subject}"
        self.polled = 0
        self.lost_at = 0.0


class Puller:
    """Supplies one Dramatiq consumer with messages of its queue.

    Args:
        pullers: the started pullers of this process; this one adds and removes itself.
        on_message: called on the loop with each message to be run.
    """

    def __init__(
        self,
        link: Link,
        acknowledgements: Acknowledgements,
        pullers: "list[Puller]",
        options: PullOptions,
        counts: QueueCounts,
        on_message: Callable[[Delivery], None],
    ) -> None:
        self._link = link
        self._acknowledgements = acknowledgements
        self._pullers = pullers
        self._options = options
        self._counts = counts
        self._on_message = on_message
        self._consumers = [
            _PriorityConsumer(index, options.stream, config)
            for index, config in enumerate(options.consumers)
        ]
        self._by_subject = {consumer.subject: consumer for consumer in self._consumers}
        self._probed: _PriorityConsumer | None = None
        self._probe_left = 0
        self._dispatched = 0
        self._surplus: deque[Delivery] = deque()
        self._gate = options.gate
        self._set_aside_at = float("-inf")
        self._throughput = None if options.is_shared else Throughput()
        self._coalescing: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._generation = 0
        self._recovery: asyncio.Task[None] | None = None
        self._is_ready = False
        self._is_closing = False
        self._not_ready_log = LogThrottle()
        self._logger = get_logger(__name__, type(self))

    @property
    def dispatched(self) -> int:
        """How many messages Dramatiq has."""
        return self._dispatched

    async def start(self) -> None:
        """Create the JetStream consumers that are missing, and begin to pull."""
        await self._ensure_consumers()
        self._inbox, self._subscription = await self._link.subscribe(self._receive)
        self._watching = asyncio.create_task(self._replace_lost_requests())
        self._pullers.append(self)
        self._is_ready = True
        self.refill()

    async def close(self) -> None:
        """Stop pulling. Release the surplus and all messages that are still on their way."""
        if self._is_closing:  # Dramatiq closes a consumer that failed, and again when it stops
            return
        self._is_closing = True
        self._pullers.remove(self)
        self._watching.cancel()
        if self._recovery is not None:
            self._recovery.cancel()
        self._release_surplus()
        if self._link.disconnected_at is not None:
            return
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            # The server drops long polls whose inbox has no subscription.
            await self._subscription.drain()

    def refill(self) -> None:
        """Pull as many messages as there are free slots."""
        if not self._is_ready or self._is_closing or self._probed or self._coalescing:
            return
        free = self._free_slots()
        if free >= self._min_batch():
            self._probe(free)
        elif free > 0:
            self._coalescing = asyncio.get_running_loop().call_later(_COALESCE_S, self._coalesced)

    def use_free_slots(self) -> None:
        """Dispatch from the surplus if a slot is free, or pull more."""
        if self._has_slot():
            self._dispatch_surplus()
        self.refill()

    def resume(self) -> None:
        """Start over after a reconnect: JetStream has lost all requests."""
        self._release_surplus()
        self._begin_recovery()

    # Requests

    def _free_slots(self) -> int:
        if self._options.is_shared:
            return self._options.prefetch - self._acknowledgements.held
        surplus = 0 if self._throughput is None else self._throughput.surplus
        return self._options.prefetch + surplus - self._dispatched - len(self._surplus)

    def _min_batch(self) -> int:
        return max(1, min(self._options.prefetch, self._dispatched) // 4)

    def _coalesced(self) -> None:
        self._coalescing = None
        if self._is_ready and not self._is_closing and not self._probed and self._free_slots() > 0:
            self._probe(self._free_slots())

    def _probe(self, batch: int) -> None:
        for consumer in self._consumers:
            if not consumer.polled:
                batch += self._beyond_slots()
                self._probed, self._probe_left = consumer, batch
                request = {"batch": batch, "no_wait": True}
                self._request(consumer, _PROBE, request, _LOST_AFTER_S)
                return

    def _long_poll(self, consumer: _PriorityConsumer) -> None:
        is_alone = len(self._consumers) == 1 and not self._options.is_shared
        consumer.polled = max(1, self._free_slots()) if is_alone else 1
        request = {"batch": consumer.polled, "expires": int(_LONG_POLL_S * 1e9)}
        self._request(consumer, _LONG_POLL, request, _LONG_POLL_S + _LOST_AFTER_S)

    def _request(
        self, consumer: _PriorityConsumer, kind: str, request: dict[str, Any], lost_after: float
    ) -> None:
        consumer.lost_at = asyncio.get_running_loop().time() + lost_after
        reply = f"{self._inbox}.{self._generation}-{kind}-{consumer.index}"
        self._link.send(Outgoing(consumer.next, msgspec.json.encode(request), reply))

    # Answers

    def _receive(self, message: Msg) -> None:
        if is_delivery(message.reply):
            self._receive_delivery(message)
        else:
            self._receive_status(message.subject.rpartition(".")[2], message.headers or {})

    def _receive_delivery(self, message: Msg) -> None:
        if self._is_closing:
            self._link.send(Outgoing(message.reply, NAK))
            return
        delivery = Delivery(message, self._settled)
        if self._acknowledgements.hold(delivery):
            self._counts.delivered += 1
            self._counts.redelivered += delivery.deliveries > 1
            self._counts.in_flight += 1
            self._accept(delivery)
        consumer = self._by_subject[message.subject]
        if consumer is not self._probed:
            consumer.polled = max(0, consumer.polled - 1)
            if not consumer.polled:
                self.refill()
        elif self._probe_left > 1:
            self._probe_left -= 1
        else:
            self._probed = None
            self.refill()

    def _receive_status(self, token: str, headers: dict[str, str]) -> None:
        generation, kind, index = token.split("-")
        if int(generation) != self._generation or self._is_closing:
            return
        consumer = self._consumers[int(index)]
        status = headers.get("Status")
        # A consumer with replicas answers a probe that it could fill in part as if it had expired.
        if status in {_NO_MESSAGES, _REQUEST_EXPIRED} and kind == _PROBE:
            self._probed = None
            self._long_poll(consumer)
            self.refill()
        elif status == _REQUEST_EXPIRED and kind == _LONG_POLL and self._free_slots() > 0:
            # The consumer was empty until now, so a probe would find nothing.
            self._long_poll(consumer)
        elif status == _REQUEST_EXPIRED and kind == _LONG_POLL:
            consumer.polled = 0
        else:
            self._logger.debug(
                "pull request ended status=%s description=%s", status, headers.get("Description")
            )
            self._begin_recovery()

    def _beyond_slots(self) -> int:
        """Return how many messages to pull that will not run here."""
        since = asyncio.get_running_loop().time() - self._set_aside_at
        if since > _SETTING_ASIDE_S or self._acknowledgements.set_aside > _MAX_SET_ASIDE:
            return 0
        return _SET_ASIDE_BATCH

    def _accept(self, delivery: Delivery) -> None:
        left = seconds_left(delivery.headers)
        if left > 0:
            self._hold_back(delivery, left)
        else:
            self._accept_due(delivery)

    def _accept_due(self, delivery: Delivery) -> None:
        if self._gate is not None and not self._gate.admits(delivery.data):
            self._set_aside(delivery, self._gate)
        elif self._has_slot() or delivery.deliveries > _MAX_RELEASES:
            self._dispatch(delivery)
        else:
            self._surplus.append(delivery)
            self._watch_for_stall()

    def _has_slot(self) -> bool:
        if not self._options.is_shared:
            return self._dispatched < self._options.prefetch
        dispatched = sum(puller.dispatched for puller in self._pullers)
        return dispatched < self._options.prefetch

    def _dispatch(self, delivery: Delivery) -> None:
        self._dispatched += 1
        delivery.is_dispatched = True
        if self._gate is not None:
            self._gate.enter(delivery.identity, delivery.data)
        self._on_message(delivery)

    def _settled(self, delivery: Delivery) -> None:
        self._counts.in_flight -= 1
        if delivery.is_set_aside:
            self._acknowledgements.set_aside -= 1
        if delivery.is_dispatched:
            self._dispatched -= 1
            if self._gate is not None:
                self._gate.leave(delivery.identity)
            if self._throughput is not None:
                self._throughput.count()
            if not self._options.is_shared:
                self._dispatch_surplus()
        if self._options.is_shared:
            for puller in self._pullers:
                puller.use_free_slots()
        else:
            self.refill()

    def _hold_back(self, delivery: Delivery, seconds: float) -> None:
        """Hold a message until its delay is over."""
        if self._acknowledgements.set_aside > _MAX_SET_ASIDE:
            self._acknowledgements.release_for(delivery, seconds)
            return
        delivery.is_set_aside = True
        self._acknowledgements.set_aside += 1
        asyncio.get_running_loop().call_later(seconds, self._end_delay, delivery)

    def _end_delay(self, delivery: Delivery) -> None:
        if not self._acknowledgements.holds(delivery):
            return  # released when the connection closed
        delivery.is_set_aside = False
        self._acknowledgements.set_aside -= 1
        if self._is_closing or self._link.disconnected_at is not None:
            # As for the surplus: NATS may deliver it to another worker.
            self._acknowledgements.release(delivery)
        else:
            # The clock may have been set back, so that it is not due yet.
            self._accept(delivery)

    def _set_aside(self, delivery: Delivery, gate: Gate) -> None:
        self._set_aside_at = asyncio.get_running_loop().time()
        delivery.is_set_aside = True
        self._acknowledgements.set_aside += 1

        def done(is_moved: bool) -> None:
            if not self._acknowledgements.holds(delivery):
                return  # released when the connection closed
            if is_moved:
                self._acknowledgements.finish(delivery)
            else:
                self._acknowledgements.release(delivery)

        gate.set_aside(delivery.data, done)

    # The surplus

    def _dispatch_surplus(self) -> None:
        # While NATS is away a message must not begin: NATS may deliver it to another worker.
        while self._surplus and self._link.disconnected_at is None:
            delivery = self._surplus.popleft()
            if self._gate is None or self._gate.admits(delivery.data):
                self._dispatch(delivery)
                return
            self._set_aside(delivery, self._gate)

    def _watch_for_stall(self) -> None:
        if self._stall_timer is None:
            self._stall_timer = asyncio.get_running_loop().call_later(STALL_S, self._check_stall)

    def _check_stall(self) -> None:
        self._stall_timer = None
        if self._throughput is None or self._throughput.reset_if_stalled():
            self._release_surplus()
        if self._surplus:
            self._watch_for_stall()

    def _release_surplus(self) -> None:
        while self._surplus:
            self._acknowledgements.release(self._surplus.popleft())

    # Recovery

    async def _ensure_consumers(self) -> None:
        for consumer in self._consumers:
            await self._link.jetstream.api(
                consumer.create, {"stream_name": self._options.stream, "config": consumer.config}
            )

    def _begin_recovery(self) -> None:
        # The JetStream consumer may be deleted, or without a leader: ensure it before pulling on.
        if self._is_ready:
            self._is_ready = False
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while not self._is_closing:
            await asyncio.sleep(_RETRY_S)
            try:
                await self._ensure_consumers()
                break
            except (UnavailableError, JetStreamError) as error:
                if self._not_ready_log.is_due():
                    self._logger.warning(
                        "queue not ready queue=%s error=%s", self._options.queue, error
                    )
        self._generation += 1
        self._probed = None
        for consumer in self._consumers:
            consumer.polled = 0
        self._is_ready = True
        self.refill()

    async def _replace_lost_requests(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOST_AFTER_S)
            for consumer in self._consumers:
                is_asked = consumer is self._probed or consumer.polled
                if is_asked and consumer.lost_at < loop.time():
                    self._logger.debug("pull request lost queue=%s", self._options.queue)
                    self._begin_recovery()
