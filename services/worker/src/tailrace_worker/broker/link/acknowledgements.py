"""Send heartbeats for running messages, and acknowledge finished ones.

From its arrival to its acknowledgement a message is *held*. A heartbeat extends its ack wait three
times per ack wait, for as long as its actor takes. A process that dies stops its heartbeats, and
JetStream delivers its messages to other workers within the ack wait.

An ack is kept until the server has confirmed that it has read it, so that a connection that breaks
at the wrong moment costs no second run. If JetStream delivers a message again that runs here or was
finished here (because the server lost the ack in a crash), the second delivery is answered and not
run.
"""

import asyncio
import time
from typing import Final

import nats.errors

from tailrace_worker.broker.link.delivery import Delivery, Identity
from tailrace_worker.broker.link.link import Link
from tailrace_worker.broker.link.wire import ACK, IN_PROGRESS, NAK, Outgoing, nak_with_delay

#: Heartbeats of a message within one ack wait: two may be lost without harm.
_HEARTBEATS: Final = 3
#: How long to collect acks before asking the server whether it has read them.
_CONFIRM_INTERVAL_S: Final = 0.05
#: Finished messages to remember, against redelivery by a server that lost their acks.
_MAX_FINISHED: Final = 50_000
#: Beyond the ack wait: how long to remember them. A server that crashes loses only recent acks.
_REMEMBER_S: Final = 120.0


class Acknowledgements:
    """The messages that this process holds, and acks that the server has not read. On the loop.

    Args:
        ack_wait: seconds without a heartbeat after which JetStream delivers a message again.

    Attributes:
        set_aside: how many of the held messages are not to run now: a gate moves them elsewhere, or
            their delay is not over.
    """

    def __init__(self, link: Link, ack_wait: float) -> None:
        self._link = link
        self._ack_wait = ack_wait
        self._held: dict[Identity, Delivery] = {}
        # Oldest first, with the time of the end by the monotonic clock.
        self._finished: dict[Identity, float] = {}
        self._unconfirmed: dict[str, None] = {}
        self._confirming: asyncio.Task[None] | None = None
        self.set_aside = 0

    @property
    def held(self) -> int:
        """How many messages this process holds to run them."""
        return len(self._held) - self.set_aside

    def hold(self, delivery: Delivery) -> bool:
        """Hold a message that arrived; return False if this delivery must not be run."""
        identity = delivery.identity
        if identity in self._finished:
            self._acknowledge(delivery.reply)
            return False
        if running := self._held.get(identity):
            running.reply = delivery.reply  # JetStream counts only the newest delivery's heartbeats
            self._link.send(Outgoing(delivery.reply, IN_PROGRESS))
            return False
        self._held[identity] = delivery
        return True

    def holds(self, delivery: Delivery) -> bool:
        return delivery.identity in self._held

    def finish(self, delivery: Delivery) -> None:
        """Acknowledge a message: it leaves the queue."""
        held = self._held.pop(delivery.identity, delivery)
        self._finished[held.identity] = time.monotonic()
        if len(self._finished) > _MAX_FINISHED:
            del self._finished[next(iter(self._finished))]
        self._acknowledge(held.reply)
        held.settle()

    def release(self, delivery: Delivery) -> None:
        """Return a message: JetStream delivers it to another worker at once."""
        held = self._held.pop(delivery.identity, None)
        if held is not None:
            # Never sent twice: by then another worker may run the message.
            self._link.send(Outgoing(held.reply, NAK))
            held.settle()

    def release_for(self, delivery: Delivery, seconds: float) -> None:
        """Return a message: JetStream delivers it again after so many seconds."""
        held = self._held.pop(delivery.identity)
        self._link.send(Outgoing(held.reply, nak_with_delay(seconds)))
        held.settle()

    def release_all(self) -> None:
        """Return every held message, when the connection closes."""
        for delivery in list(self._held.values()):
            self.release(delivery)

    def stop(self) -> None:
        """Stop waiting for confirmations, when the connection has closed."""
        if self._confirming is not None:
            self._confirming.cancel()

    def resend_all(self) -> None:
        """Send again every ack that the server may not have read, and all heartbeats."""
        for reply in self._unconfirmed:
            self._link.send(Outgoing(reply, ACK))
        self._send_heartbeats()

    async def heartbeat(self) -> None:
        """Send heartbeats for the held messages until cancelled."""
        while True:
            await asyncio.sleep(self._ack_wait / _HEARTBEATS)
            self._send_heartbeats()
            self._forget_finished()

    def _forget_finished(self) -> None:
        latest = time.monotonic() - self._ack_wait - _REMEMBER_S
        while self._finished:
            oldest = next(iter(self._finished))
            if self._finished[oldest] > latest:
                return
            del self._finished[oldest]

    def _send_heartbeats(self) -> None:
        for delivery in self._held.values():
            self._link.send(Outgoing(delivery.reply, IN_PROGRESS))

    def _acknowledge(self, reply: str) -> None:
        self._unconfirmed[reply] = None
        self._link.send(Outgoing(reply, ACK))
        if self._confirming is None or self._confirming.done():
            self._confirming = asyncio.get_running_loop().create_task(self._confirm())

    async def _confirm(self) -> None:
        # The server reads a connection in order: once it has answered a ping, it has read
        # everything that was sent before it.
        while self._unconfirmed:
            await asyncio.sleep(_CONFIRM_INTERVAL_S)
            sent = list(self._unconfirmed)
            try:
                is_read = await self._link.flush()
            except (TimeoutError, nats.errors.Error, OSError):
                is_read = False
            if not is_read:
                return  # unconfirmed ones are sent again after a reconnect
            for reply in sent:
                del self._unconfirmed[reply]
