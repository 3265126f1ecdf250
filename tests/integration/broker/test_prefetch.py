"""No worker holds messages that an idle one could run; urgent messages run first."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq import Consumer, Worker

from tailrace_worker.broker import NatsBroker

Work = Callable[..., Worker]


@pytest.fixture
def other(broker: NatsBroker) -> Iterator[NatsBroker]:
    """The broker of a second process on the same queues."""
    made = NatsBroker(
        broker.connector.options.settings.nats_url, prefix=broker.connector.options.settings.prefix
    )
    yield made
    made.close()


def message(queue: str = "default", actor: str = "none", **options: Any) -> Any:
    """Return a message."""
    return dramatiq.Message(queue, actor, (), {}, options)


def received(consumer: Consumer) -> Any:
    """Wait for the next message and return it."""
    while (message := next(consumer)) is None:
        pass
    return message


def test_a_stalled_worker_releases_its_surplus(
    broker: NatsBroker, other: NatsBroker, work: Work
) -> None:
    """A worker that was fast at short messages releases its surplus when a long one runs."""
    blocked, gate = threading.Event(), threading.Event()

    @dramatiq.actor
    def quick() -> None: ...

    @dramatiq.actor
    def long() -> None:
        blocked.set()
        gate.wait(100)

    broker.enqueue_many([quick.message() for _ in range(500)])
    long.send()
    broker.enqueue_many([quick.message() for _ in range(50)])
    work(threads=1)
    assert blocked.wait(60)
    other.declare_queue("default")
    consumer = other.consume("default", prefetch=60)
    for _ in range(45):
        consumer.ack(received(consumer))
    gate.set()
    consumer.close()


def test_the_brokers_prefetch_limits_all_queues_together(
    broker: NatsBroker, other: NatsBroker
) -> None:
    """With ``prefetch`` a process holds at most that many messages over all its queues."""
    other.prefetch = 2
    for queue in ("a", "b"):
        broker.declare_queue(queue)
        other.declare_queue(queue)
        broker.enqueue_many([message(queue) for _ in range(10)])
    consumers = [other.consume("a", prefetch=100, timeout=300)]
    received(consumers[0])
    received(consumers[0])
    consumers.append(other.consume("b", prefetch=100, timeout=300))
    assert [next(consumer) for consumer in consumers] == [None, None]
    assert other.connection.acknowledgements.held == 2
    rest = broker.consume("b", prefetch=100)
    for _ in range(10):
        received(rest)
    for consumer in [*consumers, rest]:
        consumer.close()


def test_a_process_without_free_slots_releases_a_message_of_another_queue(
    broker: NatsBroker, other: NatsBroker
) -> None:
    """Its long poll was open when a long message of another queue took the last slot."""
    other.prefetch = 1
    consumers = {}
    for queue in ("a", "b"):
        broker.declare_queue(queue)
        other.declare_queue(queue)
        consumers[queue] = other.consume(queue, prefetch=100, timeout=1000)
        assert next(consumers[queue]) is None
    broker.enqueue(message("a"))
    long = received(consumers["a"])
    broker.enqueue(message("b"))
    assert next(consumers["b"]) is None
    rest = broker.consume("b", prefetch=100)
    rest.ack(received(rest))
    # A slot is free again: the process pulls from the queue whose message it released.
    consumers["a"].ack(long)
    rest.close()
    broker.enqueue(message("b"))
    received(consumers["b"])
    for consumer in consumers.values():
        consumer.close()


def test_urgent_messages_come_first_across_the_queue(broker: NatsBroker, work: Work) -> None:
    """High runs before normal before low, although the low messages were enqueued first."""
    broker.prefetch = 1  # a stalled worker releases what it holds beyond that
    order: list[str] = []
    for name, priority in (("low", 5), ("normal", 0), ("high", -5)):

        def record(name: str = name) -> None:
            order.append(name)

        dramatiq.actor(actor_name=name, priority=priority)(record)
    for name in ("low", "normal", "high"):
        broker.enqueue_many([message(actor=name) for _ in range(30)])
    work(threads=1)
    broker.join("default", timeout=60_000)
    assert order == ["high"] * 30 + ["normal"] * 30 + ["low"] * 30


def test_an_urgent_message_overtakes_a_backlog(broker: NatsBroker, work: Work) -> None:
    """An urgent message runs next, however long the queue is."""
    order: list[str] = []
    turns = threading.Semaphore(0)

    @dramatiq.actor(priority=10)
    def bulk() -> None:
        turns.acquire()
        order.append("bulk")

    @dramatiq.actor(priority=-10)
    def urgent() -> None:
        order.append("urgent")

    broker.enqueue_many([bulk.message() for _ in range(300)])
    work(threads=1)
    for turn in range(300):
        if turn == 10:
            urgent.send()
        turns.release()
        while order.count("bulk") <= turn:
            time.sleep(0.001)
    broker.join("default", timeout=60_000)
    assert order.index("urgent") < 50
    assert len(order) == 301


def test_a_message_may_name_its_own_class(broker: NatsBroker) -> None:
    """The option of the message overrides the actor; delayed messages keep their class."""
    queues = NatsBroker(
        broker.connector.options.settings.nats_url,
        prefix=broker.connector.options.settings.prefix,
        priority_queues=["default"],
    )
    queues.declare_queue("default")
    low = queues.enqueue(message(priority_class="low"))
    normal = queues.enqueue(message())
    high = queues.enqueue(message(priority_class="high"), delay=1)
    while queues.backlog()["default"] != (3, 0):
        time.sleep(0.01)
    consumer = queues.consume("default", prefetch=1)
    for expected in (high, normal, low):
        got = received(consumer)
        assert got.message_id == expected.message_id
        consumer.ack(got)
    consumer.close()
    queues.close()


def test_an_unavailable_class_is_refused(broker: NatsBroker) -> None:
    """An enqueue fails if no worker would pull from the class."""
    broker.declare_queue("default")
    with pytest.raises(ValueError, match="use one of high, normal, low"):
        broker.enqueue(message(priority_class="urgent"))
    with pytest.raises(ValueError, match="has no priority classes"):
        broker.enqueue(message(priority_class="high"))
    with pytest.raises(ValueError, match="use one of high, normal, low"):
        dramatiq.actor(priority_class="urgent")(lambda: None)
