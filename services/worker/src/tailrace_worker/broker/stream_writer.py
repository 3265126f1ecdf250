"""Stores messages in JetStream, from any thread."""

import concurrent.futures
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from dramatiq.errors import BrokerError, ConnectionClosed

from tailrace_worker.broker.link.connector import Connector
from tailrace_worker.broker.link.publisher import Publish

#: Room to leave in a message for the headers that it would get as a dead letter.
_DEAD_LETTER_HEADERS_BYTES: Final = 2048
#: The publisher keeps the deadline; a caller waits longer only if the loop has ended.
_WAIT_MARGIN_S: Final = 5.0


def _ignore() -> None:
    pass


class StreamWriter:
    """Posts messages and waits for JetStream's confirmation.

    Args:
        timeout_s: seconds to wait for a confirmation, a reconnect included.
    """

    def __init__(self, connector: Connector, timeout_s: float) -> None:
        self._connector = connector
        self.timeout_s = timeout_s

    @property
    def max_payload(self) -> int:
        """The largest message that NATS accepts, in bytes."""
        return self._connector.get().link.client.max_payload

    def prepare(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str],
        on_stored: Callable[[], None] = _ignore,
    ) -> Publish:
        """Return a message to ``post``; ``on_stored`` is called on the connection's loop."""
        return Publish(subject, payload, headers, time.monotonic() + self.timeout_s, on_stored)

    def post(self, publish: Publish, *, reserved_bytes: int = _DEAD_LETTER_HEADERS_BYTES) -> None:
        """Send a message without waiting; ``confirm`` waits.

        Args:
            reserved_bytes: room to leave below NATS's limit.

        Raises:
            BrokerError: the message is too large.
            ConnectionClosed: the broker is closed.
            ConnectionFailed: NATS cannot be reached.
        """
        connection = self._connector.get()
        limit = connection.link.client.max_payload - reserved_bytes
        # NATS would cut the connection rather than refuse the message, at every attempt.
        if publish.size > limit:
            raise BrokerError(
                f"the message has {publish.size} bytes with its headers; this NATS accepts "
                f"{limit}, with room for the headers of a dead letter"
            )
        connection.post(partial(connection.publisher.publish, publish))

    def confirm(self, publish: Publish) -> int:
        """Wait until JetStream has stored a message; return its stream sequence.

        Raises:
            ConnectionClosed: JetStream did not confirm in time; it may still have the message.
            BrokerError: JetStream refused the message.
        """
        try:
            return publish.result.result(self.timeout_s + _WAIT_MARGIN_S)
        except (TimeoutError, concurrent.futures.CancelledError):
            raise ConnectionClosed("the connection to NATS is closed") from None
