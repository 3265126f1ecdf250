"""The publisher keeps a message until JetStream has stored or refused it."""

import time
from typing import cast

import msgspec
import pytest
from dramatiq.errors import BrokerError, ConnectionClosed
from nats.aio.client import Client
from nats.aio.msg import Msg

from tailrace_shared.errors import StoreFullError
from tailrace_worker.broker.link.errors import refusal_code
from tailrace_worker.broker.link.link import Link
from tailrace_worker.broker.link.publisher import Publish, Publisher
from tailrace_worker.broker.link.wire import Outgoing


class RecordingLink:
    """Records what is sent."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    def send(self, message: Outgoing) -> None:
        """Record a message."""
        self.sent.append(message)


class Exchange:
    """A publisher with one message in flight, answered by hand."""

    def __init__(self) -> None:
        self.link = RecordingLink()
        self.publisher = Publisher(cast(Link, self.link))
        self.stored = 0
        self.publish = Publish("subject", b"body", {}, time.monotonic() + 10, self._count)
        self.publisher.publish(self.publish)

    def _count(self) -> None:
        self.stored += 1

    def answer(self, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer the newest message that was sent."""
        client = cast(Client, None)
        self.publisher._receive(
            Msg(client, subject=self.link.sent[-1].reply, data=data, headers=headers)
        )

    def refuse(self, code: int, description: str = "") -> None:
        """Answer with one of JetStream's error codes."""
        error = {"code": 503, "err_code": code, "description": description}
        self.answer(msgspec.json.encode({"error": error}))

    def pass_time(self, seconds: float) -> None:
        """Check for unanswered messages as of a later time."""
        self.publisher._check(time.monotonic() + seconds)


def test_a_stored_message_has_its_sequence() -> None:
    """An acknowledgement ends the exchange; a second one is ignored."""
    exchange = Exchange()
    exchange.answer(b'{"stream": "S", "seq": 7}')
    exchange.answer(b'{"stream": "S", "seq": 7}')
    assert exchange.publish.result.result(0) == 7
    assert exchange.stored == 1


@pytest.mark.parametrize("code", [10008, 10009, 10023, 10158])
def test_a_message_that_cannot_be_stored_now_is_sent_again(code: int) -> None:
    """The answer is no error: the same message, with the same id, is sent until it is stored."""
    exchange = Exchange()
    exchange.refuse(code)
    assert not exchange.publish.result.done()
    exchange.pass_time(1)
    assert len(exchange.link.sent) == 1
    exchange.pass_time(3)
    first, second = exchange.link.sent
    assert first == second
    exchange.answer(b'{"stream": "S", "seq": 8, "duplicate": true}')
    assert exchange.publish.result.result(0) == 8


def test_a_stream_without_responders_is_asked_again() -> None:
    """NATS answers 503 while the stream is not up."""
    exchange = Exchange()
    exchange.answer(b"", {"Status": "503"})
    exchange.pass_time(3)
    assert len(exchange.link.sent) == 2


def test_a_refused_message_fails_with_its_code() -> None:
    """Dramatiq's error has JetStream's as its cause, and the message is not sent again."""
    exchange = Exchange()
    exchange.refuse(10189)
    error = exchange.publish.result.exception(0)
    assert isinstance(error, BrokerError)
    assert refusal_code(error) == 10189
    exchange.pass_time(3)
    assert len(exchange.link.sent) == 1


def test_a_message_without_an_answer_fails_at_its_deadline() -> None:
    """The caller learns that the message may still be stored."""
    exchange = Exchange()
    exchange.pass_time(11)
    assert isinstance(exchange.publish.result.exception(0), ConnectionClosed)


def test_a_message_that_a_full_store_refused_fails_with_that_reason() -> None:
    """The caller reads what an operator must do, not only that time has passed."""
    exchange = Exchange()
    exchange.refuse(10077, "maximum bytes exceeded")
    exchange.pass_time(11)
    error = exchange.publish.result.exception(0)
    assert isinstance(error, ConnectionClosed)
    assert isinstance(error.__cause__, StoreFullError)
    assert "the store is full" in str(error)
