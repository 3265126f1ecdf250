"""Dramatiq's contract of a broker: declaring, enqueueing, consuming, flushing, joining."""

# ruff: noqa: ARG001, ARG002 - some fixtures only take effect, and actors ignore arguments

import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq import Broker, Consumer, Worker
from dramatiq.errors import QueueJoinTimeout, QueueNotFound
from dramatiq.middleware import Middleware

Run = Callable[..., Worker]


class Recorder(Middleware):
    """Records the signals of the broker."""

    def __init__(self) -> None:
        self.signals: list[tuple[str, Any]] = []

    def before_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """Record the signal."""
        self.signals.append(("before_declare_queue", queue_name))

    def after_declare_queue(self, broker: Broker, queue_name: str) -> None:
        """Record the signal."""
        self.signals.append(("after_declare_queue", queue_name))

    def before_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        """Record the signal."""
        self.signals.append(("before_enqueue", delay))

    def after_enqueue(self, broker: Broker, message: Any, delay: int | None) -> None:
        """Record the signal."""
        self.signals.append(("after_enqueue", delay))


def message_for(queue: str) -> "dramatiq.Message[Any]":
    """Return a message for a queue."""
    return dramatiq.Message(queue_name=queue, actor_name="none", args=(1,), kwargs={}, options={})


def received(consumer: Consumer) -> Any:
    """Wait for the next message and return it."""
    while (message := next(consumer)) is None:
        pass
    return message


def test_declaring_a_queue_twice_signals_once(broker: Broker) -> None:
    """Declaring is idempotent and emits its signals once."""
    recorder = Recorder()
    broker.add_middleware(recorder)
    broker.declare_queue("q")
    broker.declare_queue("q")
    assert recorder.signals == [("before_declare_queue", "q"), ("after_declare_queue", "q")]
    assert "q" in broker.get_declared_queues()


def test_declared_actors_and_queues_are_known(broker: Broker) -> None:
    """Declaring an actor declares its queue."""

    @dramatiq.actor(queue_name="letters")
    def post() -> None: ...

    assert broker.get_declared_actors() == {"post"}
    assert "letters" in broker.get_declared_queues()
    assert broker.get_actor("post") is post


def test_declared_queues_cannot_be_changed_from_outside(broker: Broker) -> None:
    """``get_declared_queues`` returns a copy."""
    broker.declare_queue("q")
    broker.get_declared_queues().clear()
    assert "q" in broker.get_declared_queues()


def test_enqueueing_signals_before_and_after(broker: Broker) -> None:
    """Middleware sees each message before and after it is stored, with its delay."""
    recorder = Recorder()
    broker.declare_queue("q")
    broker.add_middleware(recorder)
    recorder.signals.clear()
    broker.enqueue(message_for("q"))
    broker.enqueue(message_for("q"), delay=60_000)
    assert recorder.signals == [
        ("before_enqueue", None),
        ("after_enqueue", None),
        ("before_enqueue", 60_000),
        ("after_enqueue", 60_000),
    ]


def test_consuming_an_undeclared_queue_is_an_error(broker: Broker) -> None:
    """An undeclared queue raises ``QueueNotFound``."""
    with pytest.raises(QueueNotFound):
        broker.consume("nowhere")


def test_joining_an_undeclared_queue_is_an_error(broker: Broker) -> None:
    """An undeclared queue raises ``QueueNotFound``."""
    with pytest.raises(QueueNotFound):
        broker.join("nowhere")


def test_a_consumer_yields_messages_in_order(broker: Broker) -> None:
    """Messages arrive first in, first out, and unchanged."""
    broker.declare_queue("q")
    sent = [broker.enqueue(message_for("q")) for _ in range(3)]
    consumer = broker.consume("q", prefetch=3)
    messages = [received(consumer) for _ in range(3)]
    assert [message.message_id for message in messages] == [each.message_id for each in sent]
    assert all(message.args == (1,) and message.options == {} for message in messages)
    for message in messages:
        consumer.ack(message)
    consumer.close()


def test_an_idle_consumer_yields_none_after_its_timeout(broker: Broker) -> None:
    """The consumer of an empty queue waits for its timeout."""
    broker.declare_queue("q")
    consumer = broker.consume("q", timeout=100)
    before = time.monotonic()
    assert next(consumer) is None
    assert time.monotonic() - before > 0.09
    consumer.close()


def test_a_consumer_holds_no_more_than_its_prefetch(broker: Broker) -> None:
    """No further message arrives without an ack."""
    broker.declare_queue("q")
    for _ in range(3):
        broker.enqueue(message_for("q"))
    consumer = broker.consume("q", prefetch=1, timeout=300)
    first = received(consumer)
    assert next(consumer) is None
    consumer.ack(first)
    received(consumer)
    consumer.close()


def test_acknowledged_messages_leave_the_queue(broker: Broker) -> None:
    """A queue whose messages are all acknowledged is empty."""
    broker.declare_queue("q")
    broker.enqueue(message_for("q"))
    consumer = broker.consume("q")
    message = received(consumer)
    with pytest.raises(QueueJoinTimeout):
        broker.join("q", timeout=100)
    consumer.ack(message)
    broker.join("q", timeout=60_000)
    consumer.close()


def test_rejected_messages_are_dead_letters(broker: Broker, dead: Callable[[], list[str]]) -> None:
    """A nack moves a message from its queue to the dead letters."""
    broker.declare_queue("q")
    sent = broker.enqueue(message_for("q"))
    consumer = broker.consume("q")
    message = received(consumer)
    consumer.nack(message)
    broker.join("q", timeout=60_000)
    assert dead() == [sent.message_id]
    consumer.close()


def test_flushing_drops_waiting_messages(broker: Broker, run: Run) -> None:
    """A flushed queue is empty."""
    ran = threading.Event()

    @dramatiq.actor(queue_name="q")
    def work() -> None:
        ran.set()

    work.send()
    broker.flush("q")
    worker = run()
    broker.join("q", timeout=60_000)
    worker.join()
    assert not ran.is_set()


def test_flushing_all_drops_the_messages_of_every_queue(broker: Broker, run: Run) -> None:
    """``flush_all`` empties every declared queue, delayed messages included."""
    ran = threading.Event()

    @dramatiq.actor(queue_name="p")
    def work() -> None:
        ran.set()

    @dramatiq.actor(queue_name="q")
    def other() -> None:
        ran.set()

    work.send()
    other.send()
    other.send_with_options(delay=200)
    broker.flush_all()
    worker = run()
    for queue in ("p", "q"):
        broker.join(queue, timeout=60_000)
    worker.join()
    assert not ran.is_set()


def test_joining_waits_for_delayed_and_running_messages(broker: Broker, run: Run) -> None:
    """``join`` returns when no message is waiting, delayed or running."""
    ran: list[str] = []

    @dramatiq.actor
    def work(name: str, seconds: float) -> None:
        time.sleep(seconds)
        ran.append(name)

    work.send("running", 0.3)
    work.send_with_options(args=("delayed", 0.1), delay=300)
    run()
    broker.join("default", timeout=60_000)
    assert sorted(ran) == ["delayed", "running"]


def test_joining_can_time_out(broker: Broker) -> None:
    """``QueueJoinTimeout`` is raised for a queue that does not become empty."""
    broker.declare_queue("q")
    broker.enqueue(message_for("q"))
    with pytest.raises(QueueJoinTimeout):
        broker.join("q", timeout=100)


def test_a_worker_can_be_paused_and_resumed(broker: Broker, run: Run) -> None:
    """A paused worker runs no message until it is resumed."""
    ran = threading.Event()

    @dramatiq.actor
    def work() -> None:
        ran.set()

    worker = run()
    worker.pause()
    work.send()
    assert not ran.wait(0.3)
    worker.resume()
    assert ran.wait(60)


# The stub forgets what a stopped worker had prefetched.
@pytest.mark.parametrize("broker", ["nats"], indirect=True)
def test_a_stopping_worker_releases_the_messages_it_has_not_begun(broker: Broker, run: Run) -> None:
    """Another worker runs the prefetched messages."""
    ran: list[int] = []
    gate, blocked = threading.Event(), threading.Event()

    @dramatiq.actor
    def work(number: int) -> None:
        if number == 0:
            blocked.set()
            gate.wait(60)
        ran.append(number)

    for number in range(3):
        work.send(number)
    first = run(threads=1)
    assert blocked.wait(60)
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    while any(thread.running for thread in first.workers):
        time.sleep(0.01)
    gate.set()
    stopping.join(60)
    run()
    broker.join("default", timeout=60_000)
    assert sorted(ran) == [0, 1, 2]
