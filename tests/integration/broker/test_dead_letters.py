"""Dead letters record the failure and can be listed, replayed and purged."""

# ruff: noqa: ARG001 - actors ignore arguments

from collections.abc import Callable

import dramatiq
import pytest
from dramatiq import Consumer, Worker

from tailrace_shared.stores.dead_letters import DeadLetter
from tailrace_worker.broker import NatsBroker

Work = Callable[..., Worker]


@pytest.fixture
def failing(broker: NatsBroker) -> "dramatiq.Actor[..., None]":
    """An actor that fails unless its argument is ``well``."""
    assert dramatiq.get_broker() is broker

    @dramatiq.actor(max_retries=0)
    def fail(name: str) -> None:
        if name != "well":
            raise ValueError(f"no\n{name} é\\n")

    return fail


def store(broker: NatsBroker, subject: str, data: bytes, headers: dict[str, str]) -> None:
    """Store unencoded bytes."""
    connection = broker.connection
    connection.call(lambda: connection.jetstream.publish(subject, data, headers))


def run(broker: NatsBroker, work: Work) -> None:
    """Run a worker until the queue is empty."""
    worker = work()
    broker.join("default", timeout=60_000)
    worker.join()


def next_dead_letter(broker: NatsBroker, consumer: Consumer) -> DeadLetter:
    """Consume until a dead letter is stored, and return it."""
    while not (letters := broker.dead_letters.list()):
        assert next(consumer) is None
    [letter] = letters
    return letter


def test_a_dead_letter_records_the_failure(
    broker: NatsBroker, work: Work, failing: "dramatiq.Actor[..., None]"
) -> None:
    """Reason, error, traceback and the message's own headers are kept, line breaks and all."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = failing.send_with_options(args=("a",), traceparent=trace)
    run(broker, work)
    [letter] = broker.dead_letters.list()
    assert letter.reason == "failed"
    assert letter.error == "ValueError: no\na é\\n"
    assert "Traceback" in letter.traceback
    assert "raise ValueError" in letter.traceback
    assert letter.queue == "default"
    assert letter.deliveries == 1
    assert letter.headers == {"traceparent": trace}
    assert letter.message is not None
    assert letter.message["message_id"] == sent.message_id
    assert broker.dead_letters.get(letter.sequence) == letter


def test_a_replayed_dead_letter_runs_with_all_its_retries(broker: NatsBroker, work: Work) -> None:
    """A replay runs the message and removes the dead letter."""
    ran: list[int] = []

    @dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
    def flaky() -> None:
        message = dramatiq.middleware.CurrentMessage.get_current_message()
        assert message is not None
        ran.append(message.options.get("retries", 0))
        if len(ran) < 4:
            raise RuntimeError

    broker.add_middleware(dramatiq.middleware.CurrentMessage())
    flaky.send()
    run(broker, work)
    assert ran == [0, 1]
    assert broker.dead_letters.replay_all() == 1
    broker.join("default", timeout=60_000)
    assert ran == [0, 1, 0, 1]
    assert broker.dead_letters.list() == []


def test_dead_letters_are_listed_in_pages_and_purged_by_queue(broker: NatsBroker) -> None:
    """A page begins after a sequence; a purge is limited to its queue."""
    for queue in ("a", "b.c"):
        broker.declare_queue(queue)
        consumer = broker.consume(queue, prefetch=3, timeout=60_000)
        for _ in range(3):
            broker.enqueue(dramatiq.Message(queue, "none", (), {}, {}))
            message = next(consumer)
            assert message is not None
            consumer.nack(message)
        consumer.close()
    letters = broker.dead_letters
    first = letters.list(limit=4)
    assert [letter.queue for letter in first] == ["a", "a", "a", "b.c"]
    assert len(letters.list(after=first[-1].sequence)) == 2
    letters.delete(first[-1].sequence)
    assert letters.get(first[-1].sequence) is None
    assert letters.purge("a") == 3
    assert len(letters.list()) == 2
    assert letters.purge() == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b'{"queue_name": "default"}', b"\xff\xfe", b'{"a":' * 10_000,
     b'{"queue_name":1,"actor_name":2,"args":[],"kwargs":{},"options":{}}',
     b'{"queue_name":"default","actor_name":"a","args":[],"kwargs":{},"options":[]}'],
)  # fmt: skip
def test_an_undecodable_message_becomes_a_dead_letter(
    broker: NatsBroker, work: Work, failing: "dramatiq.Actor[..., None]", data: bytes
) -> None:
    """Consumer and worker continue with the messages behind it."""
    broker.declare_queue("default")
    store(broker, broker.connection.subjects.job("default"), data, {"X-From": "elsewhere"})
    failing.send("well")
    run(broker, work)
    [letter] = broker.dead_letters.list()
    assert letter.reason == "undecodable"
    assert letter.body == data
    assert letter.headers == {"X-From": "elsewhere"}


def test_an_undecodable_message_is_replayed_unchanged(broker: NatsBroker) -> None:
    """A later version that can decode it receives the same bytes."""
    broker.declare_queue("default")
    store(broker, broker.connection.subjects.job("default"), b"not json", {})
    consumer = broker.consume("default", timeout=500)
    letter = next_dead_letter(broker, consumer)
    broker.dead_letters.replay(letter)
    assert next_dead_letter(broker, consumer).body == b"not json"
    consumer.close()


def test_the_largest_message_can_become_a_dead_letter(broker: NatsBroker, work: Work) -> None:
    """The traceback is dropped if the message would be too large for NATS."""

    @dramatiq.actor(max_retries=0)
    def fail(filling: str) -> None:
        raise ValueError("é" * 2000)

    fail.send("x" * (1024 * 1024 - 2500))
    run(broker, work)
    [letter] = broker.dead_letters.list()
    assert letter.traceback == ""
    assert letter.error.startswith("ValueError: éé")
