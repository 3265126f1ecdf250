"""Dramatiq's side of a consumer: an iterator for one consumer thread.

Messages travel from the loop to the consumer thread through a queue. They are decoded on the
consumer thread, so that a large message does not hold up heartbeats, and one that cannot be
decoded becomes a dead letter here and is never seen by an actor.
"""

import time
from collections.abc import Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, cast

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import BrokerConnectionError, ConnectionClosed, DecodeError
from dramatiq.logging import get_logger

from tailrace_worker.broker.delivery import Delivery
from tailrace_worker.broker.link.connection import Connection
from tailrace_worker.broker.link.pull import Puller, PullOptions
from tailrace_worker.broker.message import NatsMessage, decode_message

if TYPE_CHECKING:
    from tailrace_worker.broker.broker import NatsBroker

#: How long NATS may be away before Dramatiq is told; shorter breaks are ridden out in silence.
_PATIENCE: Final = 3.0


class NatsConsumer(Consumer):
    """Iterates over the messages of one queue."""

    def __init__(
        self, broker: "NatsBroker", connection: Connection, queue: str, prefetch: int, timeout: int
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._broker = broker
        self._connection = connection
        self._queue = queue
        self._timeout = timeout / 1000
        self._arrived: SimpleQueue[Delivery] = SimpleQueue()
        options = PullOptions(
            queue=queue,
            consumers=broker.consumers_of(queue),
            prefetch=broker.prefetch or prefetch,
            shared=broker.prefetch is not None,
        )
        self._puller = Puller(connection, options, self._arrived.put)
        connection.call(self._puller.start)

    def __next__(self) -> NatsMessage | None:
        """Return the next message, or None after the idle timeout.

        Raises:
            ConnectionClosed: NATS has been away for longer than a moment.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            self._check_connection()
            try:
                delivery = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return None
            if (message := self._open(delivery)) is not None:
                return message

    def ack(self, message: MessageProxy) -> None:
        """Take a message off the queue, unless its retry or successor could not be enqueued."""
        if self._broker.take_unsent():
            self.logger.warning("Message %r comes again: what follows it was not sent.", message)
            self._hand_back(_delivery(message))
            return
        self._finish(_delivery(message))

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters.

        Raises:
            ConnectionClosed: NATS did not confirm the dead letter; the message is still held.
        """
        self._bury(_delivery(message), "failed", message._exception)  # noqa: SLF001
        self._finish(_delivery(message))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Give messages back, so that JetStream delivers them to another worker at once."""
        for message in messages:
            self._hand_back(_delivery(message))

    def close(self) -> None:
        """Stop pulling, and give back what nobody has begun to run."""
        self._connection.call(self._puller.close)
        while not self._arrived.empty():
            self._hand_back(self._arrived.get())
        if self._connection.disconnected_at is None:
            self._connection.call(self._connection.flush)

    def _check_connection(self) -> None:
        since = self._connection.disconnected_at
        if not self._connection.is_usable:
            raise ConnectionClosed("the connection to NATS is closed")
        if since is not None and time.monotonic() - since > _PATIENCE:
            raise ConnectionClosed("NATS is away")

    def _open(self, delivery: Delivery) -> NatsMessage | None:
        try:
            message = decode_message(delivery)
        except DecodeError as error:
            self._refuse(delivery, "undecodable", error)
            return None
        if delivery.deliveries > self._broker.max_deliveries:
            self._refuse(delivery, "delivered too often", None)
            return None
        return NatsMessage(message, delivery)

    def _refuse(self, delivery: Delivery, reason: str, error: BaseException | None) -> None:
        self.logger.error(
            "Message %d of queue %r becomes a dead letter: %s.",
            delivery.identity[0],
            self._queue,
            reason,
        )
        try:
            self._bury(delivery, reason, error)
        except BrokerConnectionError:
            self._hand_back(delivery)
            raise
        self._finish(delivery)

    def _bury(self, delivery: Delivery, reason: str, error: BaseException | None) -> None:
        self._broker.dead_letter(
            self._connection, delivery, queue=self._queue, reason=reason, exception=error
        )

    def _finish(self, delivery: Delivery) -> None:
        self._connection.post(partial(self._connection.acknowledgements.finish, delivery))

    def _hand_back(self, delivery: Delivery) -> None:
        self._connection.post(partial(self._connection.acknowledgements.hand_back, delivery))


def _delivery(message: MessageProxy) -> Delivery:
    # Dramatiq hands back what it was given; its interface only knows the base class.
    return cast(NatsMessage, message).delivery
