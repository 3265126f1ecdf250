"""Nobody sits on messages that an idle worker could run; urgent ones come first everywhere."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker

from tailrace_worker.broker import NatsBroker

Work = Callable[..., Worker]


@pytest.fixture
def other(broker: NatsBroker) -> Iterator[NatsBroker]:
    """A second process's broker, on the same queues."""
    made = NatsBroker(broker.connector.options.url, prefix=broker.connector.options.prefix)
    yield made
    made.close()


def message(queue: str = "default", actor: str = "none", **options: Any) -> Any:
    """Return a message."""
    return dramatiq.Message(queue, actor, (), {}, options)


def test_the_surplus_of_a_stalled_worker_is_given_back(
    broker: NatsBroker, other: NatsBroker, work: Work
) -> None:
    """A worker fast at short messages gives up its store when it meets a long one."""
    blocked, gate = threading.Event(), threading.Event()

    @dramatiq.actor
    def quick() -> None: ...

    @dramatiq.actor
    def long() -> None:
        blocked.set()
        gate.wait(20)

    broker.enqueue_many([quick.message() for _ in range(500)])
    long.send()
    broker.enqueue_many([quick.message() for _ in range(50)])
    work(threads=1)
    assert blocked.wait(10)
    other.declare_queue("default")
    consumer = other.consume("default", prefetch=60, timeout=3000)
    before = time.monotonic()
    for _ in range(45):
        received = next(consumer)
        assert received is not None
        consumer.ack(received)
    assert time.monotonic() - before < 3
    gate.set()
    consumer.close()


def test_a_prefetch_of_ones_own_holds_for_all_queues_together(
    broker: NatsBroker, other: NatsBroker
) -> None:
    """With ``prefetch`` a busy process takes no more than that, over all its queues."""
    other.prefetch = 2
    consumers = []
    for queue in ("a", "b"):
        broker.declare_queue(queue)
        other.declare_queue(queue)
        broker.enqueue_many([message(queue) for _ in range(10)])
    for queue in ("a", "b"):
        consumers.append(other.consume(queue, prefetch=100, timeout=300))
        while next(consumers[-1]) is not None:
            pass
    assert other.connection.acknowledgements.held == 2
    rest = broker.consume("b", prefetch=100, timeout=1000)
    assert sum(next(rest) is not None for _ in range(10)) == 10
    for consumer in [*consumers, rest]:
        consumer.close()


def test_a_process_that_has_no_room_any_more_gives_back_what_comes_to_another_queue(
    broker: NatsBroker, other: NatsBroker
) -> None:
    """It had asked for it while it was idle; a long message of another queue came first."""
    other.prefetch = 1
    consumers = {}
    for queue in ("a", "b"):
        broker.declare_queue(queue)
        other.declare_queue(queue)
        consumers[queue] = other.consume(queue, prefetch=100, timeout=1000)
        assert next(consumers[queue]) is None
    broker.enqueue(message("a"))
    long = next(consumers["a"])
    assert long is not None
    broker.enqueue(message("b"))
    assert next(consumers["b"]) is None
    rest = broker.consume("b", prefetch=100, timeout=3000)
    moved = next(rest)
    assert moved is not None
    rest.ack(moved)
    # Room again: the queue that gave up its message is asked for more.
    consumers["a"].ack(long)
    rest.close()
    broker.enqueue(message("b"))
    assert next(consumers["b"]) is not None
    for consumer in consumers.values():
        consumer.close()


def test_urgent_messages_come_first_across_the_queue(broker: NatsBroker, work: Work) -> None:
    """High before normal before low, though the low were enqueued first and none prefetched."""
    order: list[str] = []
    for name, priority in (("low", 5), ("normal", 0), ("high", -5)):

        def record(name: str = name) -> None:
            order.append(name)

        dramatiq.actor(actor_name=name, priority=priority)(record)
    for name in ("low", "normal", "high"):
        broker.enqueue_many([message(actor=name) for _ in range(30)])
    work(threads=1)
    broker.join("default", timeout=10_000)
    assert order == ["high"] * 30 + ["normal"] * 30 + ["low"] * 30


def test_an_urgent_message_overtakes_a_backlog(broker: NatsBroker, work: Work) -> None:
    """An urgent message runs next, however long the queue is when it comes."""
    order: list[str] = []

    @dramatiq.actor(priority=10)
    def bulk() -> None:
        order.append("bulk")
        time.sleep(0.01)

    @dramatiq.actor(priority=-10)
    def urgent() -> None:
        order.append("urgent")

    broker.enqueue_many([bulk.message() for _ in range(300)])
    work(threads=1)
    while len(order) < 10:
        time.sleep(0.005)
    at = len(order)
    urgent.send()
    broker.join("default", timeout=20_000)
    assert order.index("urgent") - at < 40
    assert len(order) == 301


def test_a_message_may_name_its_own_class(broker: NatsBroker) -> None:
    """The option outranks the actor; delayed messages keep their class."""
    queues = NatsBroker(
        broker.connector.options.url,
        prefix=broker.connector.options.prefix,
        priority_queues=["default"],
    )
    queues.declare_queue("default")
    low = queues.enqueue(message(priority_class="low"))
    normal = queues.enqueue(message())
    high = queues.enqueue(message(priority_class="high"), delay=1)
    time.sleep(1)  # until the delay is over for sure
    consumer = queues.consume("default", prefetch=1, timeout=2000)
    for expected in (high, normal, low):
        received = next(consumer)
        assert received is not None
        assert received.message_id == expected.message_id
        consumer.ack(received)
    consumer.close()
    queues.close()


def test_a_class_that_cannot_be_had_is_refused(broker: NatsBroker) -> None:
    """Rather than wait in a class that no worker takes from, the enqueue fails."""
    broker.declare_queue("default")
    with pytest.raises(ValueError, match="use one of high, normal, low"):
        broker.enqueue(message(priority_class="urgent"))
    with pytest.raises(ValueError, match="has no priority classes"):
        broker.enqueue(message(priority_class="high"))
    with pytest.raises(ValueError, match="use one of high, normal, low"):
        dramatiq.actor(priority_class="urgent")(lambda: None)
