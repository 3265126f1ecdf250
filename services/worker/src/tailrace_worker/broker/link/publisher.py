"""Publishes that survive a broken connection.

A publish is kept until JetStream has confirmed it. If no answer comes, or the connection breaks,
it is sent again with the same ``Nats-Msg-Id``, and JetStream deduplicates it if only the
confirmation was lost. Many publishes may be in flight at once; none waits for its predecessor.
"""

import asyncio
import concurrent.futures
import time
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from dramatiq.errors import ConnectionClosed
from nats.aio.msg import Msg

from tailrace_shared.errors import JetStreamError, TemporarilyUnavailableError
from tailrace_shared.nats.jetstream import stored_sequence
from tailrace_worker.broker.link.errors import refused
from tailrace_worker.broker.link.link import Link
from tailrace_worker.broker.link.wire import Outgoing

#: How often to check for publishes without an answer.
_CHECK_INTERVAL_S: Final = 0.5
#: Silence after which a publish is sent again.
_RESEND_AFTER_S: Final = 2.0
#: Size of the first and the last line of a header block.
_HEADERS_FRAME_BYTES: Final = len(b"NATS/1.0\r\n\r\n")
_NO_RESPONDERS: Final = "503"


class Publish:
    """One message on its way into a stream.

    Args:
        headers: the headers; a ``Nats-Msg-Id`` is added unless there is one.
        deadline: when to give up, by the monotonic clock.
        on_stored: called on the loop when JetStream has confirmed the message.

    Attributes:
        reason: why JetStream could not store the message when it last answered; None if it has not
            answered.
        result: becomes the stream sequence, or Dramatiq's error.
    """

    __slots__ = (
        *("deadline", "headers", "on_stored", "payload"),
        *("reason", "result", "sent_at", "subject"),
    )

    def __init__(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str],
        deadline: float,
        on_stored: Callable[[], None],
    ) -> None:
        self.subject = subject
        self.payload = payload
        self.headers = {"Nats-Msg-Id": uuid4().hex, **headers}
        self.deadline = deadline
        self.on_stored = on_stored
        self.sent_at = 0.0
        self.reason: TemporarilyUnavailableError | None = None
        self.result: concurrent.futures.Future[int] = concurrent.futures.Future()

    @property
    def size(self) -> int:
        """The bytes that NATS counts towards its limit."""
        headers = sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        return len(self.payload) + headers + _HEADERS_FRAME_BYTES


class Publisher:
    """Sends publishes and matches JetStream's answers to them. Lives on the loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._unanswered: dict[str, Publish] = {}
        self._last_token = 0
        self._inbox = ""

    async def start(self) -> None:
        """Subscribe to JetStream's answers."""
        self._inbox, _ = await self._link.subscribe(self._receive)

    def publish(self, publish: Publish) -> None:
        """Send a publish; its ``result`` becomes the stream sequence, or Dramatiq's error."""
        self._last_token += 1
        token = format(self._last_token, "x")
        self._unanswered[token] = publish
        self._send(token, publish)

    def resend_all(self) -> None:
        """Send every publish without an answer again, after a reconnect."""
        for token, publish in self._unanswered.items():
            self._send(token, publish)

    async def resend_unanswered(self) -> None:
        """Send again what stays unanswered, and fail what is past its deadline, until cancelled."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            self._check(time.monotonic())

    def _check(self, now: float) -> None:
        for token, publish in list(self._unanswered.items()):
            if now > publish.deadline:
                self._give_up(token)
            elif now > publish.sent_at + _RESEND_AFTER_S:
                self._send(token, publish)

    def _send(self, token: str, publish: Publish) -> None:
        publish.sent_at = time.monotonic()
        self._link.send(
            Outgoing(publish.subject, publish.payload, f"{self._inbox}.{token}", publish.headers)
        )

    def _give_up(self, token: str) -> None:
        publish = self._unanswered.pop(token)
        error = ConnectionClosed(
            "NATS did not confirm the message in time; it may still be stored"
            + (f". Its last answer: {publish.reason}" if publish.reason else "")
        )
        error.__cause__ = publish.reason
        publish.result.set_exception(error)

    def _receive(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        publish = self._unanswered.get(token)
        if publish is None or (message.headers or {}).get("Status") == _NO_RESPONDERS:
            return  # a second answer, or a stream that is not up yet: `_check` sends it again
        try:
            sequence = stored_sequence(message.data)
        except TemporarilyUnavailableError as error:
            publish.reason = error
            return  # `_check` sends it again
        except JetStreamError as error:
            publish.result.set_exception(refused(error))
        else:
            publish.on_stored()
            publish.result.set_result(sequence)
        del self._unanswered[token]
