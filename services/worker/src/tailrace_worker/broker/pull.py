"""Pulls messages for one Dramatiq consumer. Lives on the loop.

JetStream sends what was asked for and no more: a *pull request* for up to so many messages waits
on the server until it is filled or has expired. The puller asks for as many as the consumer may
still hold, in as few requests as it can: at once when a good part is free, otherwise a moment
later, so that the acks of that moment share one request.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec
import nats.errors
from dramatiq.logging import get_logger
from nats.aio.msg import Msg
from tailrace_shared.errors import JetStreamError, UnavailableError
from tailrace_shared.topology import JOBS

from tailrace_worker.broker.acknowledgements import Acknowledgements
from tailrace_worker.broker.wire import NAK, Outgoing, delivery_info, is_delivery

if TYPE_CHECKING:
    from tailrace_worker.broker.connection import Connection

#: How long a pull request waits on the server.
_EXPIRES: Final = 5.0
#: After its expiry a request that was not answered is taken for lost.
_LOST_AFTER: Final = 2.0
#: Wait for more acks before asking for few messages.
_GATHER: Final = 0.002
_RETRY: Final = 0.2
#: Statuses that end a request in the ordinary way: no messages, or expired.
_ENDED: Final = {"404", "408"}
#: How many of the messages asked for did not come.
_UNSERVED: Final = "Nats-Pending-Messages"


class Delivery:
    """One message as JetStream delivered it."""

    __slots__ = ("data", "deliveries", "headers", "identity", "puller", "reply", "subject")

    def __init__(self, message: Msg, puller: "Puller") -> None:
        info = delivery_info(message.reply)
        self.identity = info.identity
        self.deliveries = info.deliveries
        self.reply = message.reply
        self.subject = message.subject
        self.data = message.data
        self.headers: dict[str, str] = message.headers or {}
        self.puller = puller

    def settled(self) -> None:
        """Make room for another message."""
        self.puller.settled()


class Puller:
    """Keeps one consumer supplied with up to ``prefetch`` messages of its queue.

    Args:
        connection: the connection to pull over.
        consumer: the JetStream consumer's configuration.
        prefetch: the most messages held at once, running ones included.
        deliver: called on the loop with each message to be run.
    """

    def __init__(
        self,
        connection: "Connection",
        consumer: dict[str, Any],
        prefetch: int,
        deliver: Callable[[Delivery], None],
    ) -> None:
        self._connection = connection
        self._consumer = consumer
        self._stream = connection.subjects.stream(JOBS)
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{consumer['durable_name']}"
        self._prefetch = prefetch
        self._deliver = deliver
        self._held = 0
        self._requested = 0
        self._lost_at = 0.0
        self._gathering: asyncio.TimerHandle | None = None
        self._ready = False
        self._closing = False
        self._logger = get_logger(__name__, type(self))

    @property
    def acknowledgements(self) -> Acknowledgements:
        """Where this puller's messages are held."""
        return self._connection.acknowledgements

    async def start(self) -> None:
        """Create the JetStream consumer if it is missing, and begin to pull."""
        self._inbox, self._subscription = await self._connection.subscribe(self._receive)
        await self._ensure_consumer()
        self._connection.on_reconnect.append(self._resume)
        self._watch = asyncio.create_task(self._replace_lost_requests())
        self._ready = True
        self._refill()

    async def close(self) -> None:
        """Stop pulling. Messages that are already on their way here are given back."""
        self._closing = True
        if self._gathering is not None:
            self._gathering.cancel()
        self._watch.cancel()
        self._connection.on_reconnect.remove(self._resume)
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            # The server drops our waiting requests with the interest in their inbox.
            await self._subscription.drain()

    def settled(self) -> None:
        """Take note that a held message was acknowledged or given back."""
        self._held -= 1
        self._refill()

    async def _ensure_consumer(self) -> None:
        name = self._consumer["durable_name"]
        await self._connection.jetstream.api(
            f"CONSUMER.CREATE.{self._stream}.{name}.{self._consumer['filter_subject']}",
            {"stream_name": self._stream, "config": self._consumer},
        )

    def _refill(self) -> None:
        if self._closing or not self._ready or self._gathering is not None:
            return
        free = self._free()
        enough = max(1, self._prefetch // 4)
        if free >= enough and not self._is_supplied():
            self._request(free)
        elif free > 0 and not self._requested:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        free = self._free()
        if free > 0 and not self._requested and not self._closing:
            self._request(free)

    def _free(self) -> int:
        return self._prefetch - self._held - self._requested

    def _is_supplied(self) -> bool:
        # A request that still waits for much means that the queue is empty: more would not help.
        return self._requested > self._prefetch // 2

    def _request(self, batch: int) -> None:
        self._requested += batch
        self._lost_at = asyncio.get_running_loop().time() + _EXPIRES + _LOST_AFTER
        payload = msgspec.json.encode({"batch": batch, "expires": int(_EXPIRES * 1e9)})
        self._connection.send(Outgoing(self._next, payload, f"{self._inbox}.pull"))

    def _receive(self, message: Msg) -> None:
        if is_delivery(message.reply):
            self._arrived(message)
        else:
            self._ended(message.headers or {})

    def _arrived(self, message: Msg) -> None:
        # JetStream serves several requests in turns and does not say which one a message is for,
        # so only their sum is counted.
        self._requested = max(0, self._requested - 1)
        delivery = Delivery(message, self)
        if self._closing:
            self._connection.send(Outgoing(message.reply, NAK))
        elif self._connection.acknowledgements.take(delivery):
            self._held += 1
            self._deliver(delivery)
        else:
            self._refill()

    def _ended(self, headers: dict[str, str]) -> None:
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if status in _ENDED and _UNSERVED in headers:
            self._requested = max(0, self._requested - int(headers[_UNSERVED]))
            self._refill()
        elif not self._closing:
            self._logger.debug("Pull ended: %s %s", status, description)
            self._doubt()

    def _doubt(self) -> None:
        # The consumer was deleted, or has no leader for the moment: make sure of it, then go on.
        if self._ready:
            self._ready = False
            self._recovery = asyncio.create_task(self._recover())

    async def _recover(self) -> None:
        while not self._closing:
            await asyncio.sleep(_RETRY)
            try:
                await self._ensure_consumer()
                break
            except (UnavailableError, JetStreamError) as error:
                self._logger.warning("The queue is not ready: %s", error)
        self._requested = 0
        self._ready = True
        self._refill()

    async def _resume(self) -> None:
        # Requests died with the old connection; the new server may not know our consumer.
        self._doubt()

    async def _replace_lost_requests(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOST_AFTER)
            if self._requested and self._lost_at < loop.time():
                self._requested = 0
                self._refill()
