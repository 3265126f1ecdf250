"""Dramatiq's consumer: an iterator that one consumer thread reads.

Messages travel from the loop to the consumer thread through a queue. The consumer thread decodes
them, so that a large message does not delay heartbeats. A message that cannot be decoded becomes a
dead letter here, and no actor sees it.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple, cast

from dramatiq.broker import Consumer, MessageProxy
from dramatiq.errors import BrokerConnectionError, ConnectionClosed, DecodeError
from dramatiq.logging import get_logger

from tailrace_shared.subjects import Subjects, queue_token
from tailrace_worker.broker import priorities
from tailrace_worker.broker.link.connection import BrokerConnection
from tailrace_worker.broker.link.delivery import Delivery
from tailrace_worker.broker.link.pull import PullOptions
from tailrace_worker.broker.message import NatsMessage, decode_message

#: Seconds for which NATS may be away before the consumer raises and Dramatiq restarts it.
_MAX_OUTAGE_S: Final = 3.0

#: Stores a delivery of this queue as a dead letter, with a reason and an exception.
WriteDeadLetter = Callable[[Delivery, str, BaseException | None], None]


class ConsumerOptions(NamedTuple):
    """The settings of one consumer.

    Attributes:
        idle_timeout: seconds after which the iterator returns None.
        max_deliveries: deliveries of one message before it becomes a dead letter.
    """

    pull: PullOptions
    idle_timeout: float
    max_deliveries: int


def jetstream_consumer(
    subjects: Subjects, queue: str, class_name: str, ack_wait: float
) -> dict[str, Any]:
    """Return the configuration of the durable JetStream consumer of a queue's class.

    Args:
        ack_wait: seconds without a heartbeat after which JetStream delivers a message again.
    """
    token = queue_token(queue)
    return {
        # A queue token never contains a percent sign followed by one of these names.
        "durable_name": token if class_name == priorities.NORMAL else f"{token}%{class_name}",
        "filter_subject": subjects.job(queue, class_name),
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * 1e9),
        # The broker counts deliveries itself, to make the message a dead letter.
        "max_deliver": -1,
        "max_ack_pending": -1,
        "max_waiting": 4096,
    }


class NatsConsumer(Consumer):
    """Iterates over the messages of one queue.

    Args:
        take_unsent: returns whether the message that the calling thread has processed left a retry
            or successor unsent.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        options: ConsumerOptions,
        write_dead_letter: WriteDeadLetter,
        take_unsent: Callable[[], bool],
    ) -> None:
        self.logger = get_logger(__name__, type(self))
        self._connection = connection
        self._options = options
        self._write_dead_letter = write_dead_letter
        self._take_unsent = take_unsent
        self._arrived: SimpleQueue[Delivery] = SimpleQueue()
        self._puller = connection.new_puller(options.pull, self._arrived.put)
        connection.call(self._puller.start)

    def __next__(self) -> NatsMessage | None:
        """Return the next message, or None after the idle timeout.

        Raises:
            ConnectionClosed: NATS has been away for longer than three seconds.
        """
        deadline = time.monotonic() + self._options.idle_timeout
        while True:
            self._check_connection()
            try:
                delivery = self._arrived.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                return None
            if (message := self._open(delivery)) is not None:
                return message

    def ack(self, message: MessageProxy) -> None:
        """Acknowledge a message; release it if its retry or successor could not be enqueued."""
        if self._take_unsent():
            self.logger.warning("released a message whose follow-up was not sent: %r", message)
            self._release(_delivery(message))
            return
        self._finish(_delivery(message))

    def nack(self, message: MessageProxy) -> None:
        """Move a message to the dead letters.

        Raises:
            ConnectionClosed: NATS did not confirm the dead letter; the message is still held.
        """
        self._write_dead_letter(
            _delivery(message),
            "failed",
            message._exception,  # noqa: SLF001 - Dramatiq gives no other access
        )
        self._finish(_delivery(message))

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Release messages, so that JetStream delivers them to another worker at once."""
        for message in messages:
            self._release(_delivery(message))

    def close(self) -> None:
        """Stop pulling, and release the messages that no worker thread has begun."""
        self._connection.call(self._puller.close)
        while not self._arrived.empty():
            self._release(self._arrived.get())
        if self._connection.link.disconnected_at is None:
            self._connection.call(self._connection.link.flush)

    def _check_connection(self) -> None:
        since = self._connection.link.disconnected_at
        if not self._connection.is_usable:
            raise ConnectionClosed("the connection to NATS is closed")
        if since is not None and time.monotonic() - since > _MAX_OUTAGE_S:
            raise ConnectionClosed("NATS is away")

    def _open(self, delivery: Delivery) -> NatsMessage | None:
        try:
            message = decode_message(delivery)
        except DecodeError as error:
            self._reject(delivery, "undecodable", error)
            return None
        if delivery.deliveries > self._options.max_deliveries:
            self._reject(delivery, "delivered too often", None)
            return None
        return NatsMessage(message, delivery)

    def _reject(self, delivery: Delivery, reason: str, error: BaseException | None) -> None:
        self.logger.error(
            "message becomes a dead letter queue=%s sequence=%d reason=%r",
            self._options.pull.queue,
            delivery.identity[0],
            reason,
        )
        try:
            self._write_dead_letter(delivery, reason, error)
        except BrokerConnectionError:
            self._release(delivery)
            raise
        self._finish(delivery)

    def _finish(self, delivery: Delivery) -> None:
        self._connection.post(partial(self._connection.acknowledgements.finish, delivery))

    def _release(self, delivery: Delivery) -> None:
        self._connection.post(partial(self._connection.acknowledgements.release, delivery))


def _delivery(message: MessageProxy) -> Delivery:
    # Dramatiq returns the messages that it got from `__next__`, but declares the base class.
    return cast(NatsMessage, message).delivery
