"""Publishes that survive a broken connection.

A publish is kept until JetStream has confirmed it. If no answer comes, or the connection breaks,
it is sent again with the same ``Nats-Msg-Id``, so a message whose confirmation was lost is not
stored twice. Many may be under way at once: nothing waits for its predecessor.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from dramatiq.errors import BrokerError, ConnectionClosed
from nats.aio.msg import Msg

from tailrace_shared.errors import JetStreamError, TemporarilyUnavailableError
from tailrace_shared.nats.jetstream import stored_sequence
from tailrace_worker.broker.link.wire import Outgoing

if TYPE_CHECKING:
    from tailrace_worker.broker.link.connection import Connection

#: How often unanswered publishes are looked through.
_WATCH_INTERVAL: Final = 0.5
#: Silence after which a publish is sent again.
_RESEND_AFTER: Final = 2.0
#: The first and the last line of a header block.
_HEADERS_FRAME: Final = len(b"NATS/1.0\r\n\r\n")
_UNAVAILABLE: Final = "503"


class Publish:
    """One message on its way into a stream.

    Args:
        subject: where it goes.
        payload: the message.
        headers: its headers.
        deadline: when to give up, by the monotonic clock.
        stored: called on the loop when JetStream has confirmed it.
    """

    __slots__ = ("deadline", "headers", "payload", "result", "sent_at", "stored", "subject")

    def __init__(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str],
        deadline: float,
        stored: Callable[[], None],
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = {"Nats-Msg-Id": uuid4().hex, **headers}
        self.deadline = deadline
        self.stored = stored
        self.sent_at = 0.0
        self.result: concurrent.futures.Future[int] = concurrent.futures.Future()

    @property
    def size(self) -> int:
        """How many bytes NATS counts for it."""
        headers = sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        return len(self.payload) + headers + _HEADERS_FRAME


class Publisher:
    """Sends publishes and matches JetStream's answers to them. Lives on the loop."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._unanswered: dict[str, Publish] = {}
        self._last_token = 0
        self._inbox = ""

    async def start(self) -> None:
        """Begin to listen for answers."""
        self._inbox, _ = await self._connection.subscribe(self._answered)

    def publish(self, publish: Publish) -> None:
        """Send a publish; its ``result`` becomes the stream sequence, or Dramatiq's error."""
        self._last_token += 1
        token = format(self._last_token, "x")
        self._unanswered[token] = publish
        self._send(token, publish)

    def resend_all(self) -> None:
        """Send again whatever has no answer, after a reconnect."""
        for token, publish in self._unanswered.items():
            self._send(token, publish)

    async def watch(self) -> None:
        """Send again what stays unanswered, and give up on what has run out of time."""
        while True:
            await asyncio.sleep(_WATCH_INTERVAL)
            now = time.monotonic()
            for token, publish in list(self._unanswered.items()):
                if now > publish.deadline:
                    self._give_up(token)
                elif now > publish.sent_at + _RESEND_AFTER:
                    self._send(token, publish)

    def _send(self, token: str, publish: Publish) -> None:
        publish.sent_at = time.monotonic()
        self._connection.send(
            Outgoing(publish.subject, publish.payload, f"{self._inbox}.{token}", publish.headers)
        )

    def _give_up(self, token: str) -> None:
        self._unanswered.pop(token).result.set_exception(
            ConnectionClosed("NATS did not confirm the message in time; it may still be stored")
        )

    def _answered(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        publish = self._unanswered.get(token)
        if publish is None or (message.headers or {}).get("Status") == _UNAVAILABLE:
            return  # an answer that came twice, or a stream that is not up yet: `watch` repeats it
        try:
            sequence = stored_sequence(message.data)
        except TemporarilyUnavailableError:
            return  # `watch` sends it again
        except JetStreamError as error:
            refused = BrokerError(str(error))
            refused.__cause__ = error
            publish.result.set_exception(refused)
        else:
            publish.stored()
            publish.result.set_result(sequence)
        del self._unanswered[token]
