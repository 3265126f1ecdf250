"""JetStream keeps delayed and recurring messages: on time, cancellable, never lost."""

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq import Worker
from nats.aio.msg import Msg

from harness.nats.server import NatsServer
from tailrace_worker.broker import NatsBroker
from tailrace_worker.broker.link import short_delays

Work = Callable[..., Worker]


@pytest.mark.timeout(300)  # ten thousand messages on a machine that may be busy
def test_ten_thousand_messages_due_in_the_same_second_run_none_early(
    broker: NatsBroker, work: Work, record_property: Callable[[str, object], None]
) -> None:
    """Every message runs, and none before its due time."""
    total, ran = 10_000, list[float]()

    @dramatiq.actor
    def record() -> None:
        ran.append(time.time())

    work(threads=8)
    due = time.time() + 5
    for _ in range(total // 500):
        # Negative on a slow machine; these messages run at once.
        delay = int((due - time.time()) * 1000) + 1
        broker.enqueue_many([record.message() for _ in range(500)], delay=delay)
    broker.join("default", timeout=100_000)
    assert len(ran) == total
    assert min(ran) >= due - 0.005  # the clock may be adjusted meanwhile
    record_property("worst lateness", max(ran) - due)


def test_delayed_messages_survive_nats_and_worker(nats_server: NatsServer) -> None:
    """A delay survives the process that enqueued the message, and a killed server."""
    producer = NatsBroker(nats_server.url)
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name="default", actor_name="record", args=("x",), kwargs={}, options={}
    )
    producer.enqueue(message, delay=1000)
    producer.close()
    nats_server.kill()
    nats_server.start()
    broker = NatsBroker(nats_server.url)
    broker.declare_queue("default")
    consumer = broker.consume("default", timeout=60_000)
    received = next(consumer)
    assert received is not None
    assert received.message_id == message.message_id
    consumer.close()
    broker.close()


def test_a_delayed_message_can_be_cancelled(broker: NatsBroker) -> None:
    """A cancelled message never runs; cancelling it again returns False."""
    broker.declare_queue("q")
    sent = broker.enqueue(_message(), delay=60_000)
    schedule = sent.options["schedule_id"]
    assert broker.cancel("q", schedule)
    assert not broker.cancel("q", schedule)
    broker.join("q", timeout=60_000)


def test_a_delayed_message_with_the_same_id_replaces_the_earlier(broker: NatsBroker) -> None:
    """A schedule id names one message, however often it is enqueued."""
    broker.declare_queue("q")
    for number, delay in ((1, 600_000), (2, 200)):
        broker.enqueue(_message(number, schedule_id="timer-1"), delay=delay)
    consumer = broker.consume("q", prefetch=2, timeout=60_000)
    first = next(consumer)
    assert first is not None
    assert first.args == (2,)
    assert "schedule_id" not in first.options
    consumer.ack(first)
    broker.join("q", timeout=60_000)
    consumer.close()


def test_two_delays_of_one_message_are_two_messages(broker: NatsBroker) -> None:
    """Without a schedule id every delayed enqueue counts, as with other brokers."""
    broker.declare_queue("q")
    message = _message()
    for _ in range(2):
        broker.enqueue(message, delay=50)
    consumer = broker.consume("q", prefetch=2, timeout=60_000)
    assert [next(consumer) is not None for _ in range(2)] == [True, True]
    consumer.close()


@pytest.fixture
def sent(broker: NatsBroker) -> list[str]:
    """Return the subjects of all jobs that the broker sends, schedules included.

    NATS echoes each to the connection that sent it, before JetStream confirms it.
    """
    heard, connection = list[str](), broker.connection

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    async def subscribe() -> None:
        prefix = connection.subjects.prefix
        await connection.link.client.subscribe(f"{prefix}.jobs.>", cb=hear)

    connection.call(subscribe)
    return heard


@pytest.mark.parametrize("delay", [0, 100])
def test_short_retries_are_no_schedules_and_never_early(
    broker: NatsBroker,
    work: Work,
    sent: list[str],
    record_property: Callable[[str, object], None],
    delay: int,
) -> None:
    """Ten retries; as message schedules they would take 2.3 s and more beyond their delays."""
    began, done = list[float](), threading.Event()

    @dramatiq.actor(max_retries=10, min_backoff=delay, max_backoff=delay)
    def fail() -> None:
        began.append(time.time())
        if len(began) <= 10:
            raise RuntimeError
        done.set()

    work()
    fail.send()
    assert done.wait(60)
    gaps = [second - first for first, second in itertools.pairwise(began)]
    # Dramatiq's jitter takes up to half of the delay away.
    assert min(gaps) >= delay / 2000 - 0.005
    # The time itself depends on the machine.
    record_property(f"ten retries after {delay} ms, in s", round(sum(gaps), 3))
    assert sent == 11 * [broker.connection.subjects.job("default")]


def test_longer_delays_are_schedules(broker: NatsBroker, sent: list[str]) -> None:
    """From half a second on, JetStream keeps the message."""
    broker.declare_queue("q")
    subjects = broker.connection.subjects
    broker.enqueue(_message(), delay=short_delays.MAX_MS - 1)
    delayed = broker.enqueue(_message(), delay=short_delays.MAX_MS)
    schedule = subjects.job_at("q", delayed.options["schedule_id"])
    assert sent[:2] == [subjects.job("q"), schedule]


def test_a_short_delay_survives_the_worker_that_holds_the_message(broker: NatsBroker) -> None:
    """The worker stops, and another one gets the message, which it holds in turn."""
    broker.declare_queue("q")
    first = broker.consume("q", timeout=60_000)
    due = time.time() + 0.4
    broker.enqueue(_message(), delay=400)
    while not broker.counts["q"].in_flight:
        time.sleep(0.001)
    first.close()
    second = broker.consume("q", timeout=60_000)
    assert next(second) is not None
    assert time.time() >= due - 0.005
    second.close()


@pytest.mark.parametrize("schedule_id", ["a.b", "*", "", "x" * 65, "a b"])
def test_an_invalid_schedule_id_is_refused(broker: NatsBroker, schedule_id: str) -> None:
    """An id becomes part of a subject, so it must not contain a dot or a wildcard."""
    broker.declare_queue("q")
    with pytest.raises(ValueError, match="is not an id"):
        broker.enqueue(_message(schedule_id=schedule_id), delay=50)


def test_recurring_messages_have_an_id_for_every_firing(broker: NatsBroker, work: Work) -> None:
    """Each firing has its own id and timestamp, until the schedule is cancelled."""
    seen: list[dramatiq.Message[Any]] = []
    enough = threading.Event()
    broker.add_middleware(dramatiq.middleware.CurrentMessage())

    @dramatiq.actor(queue_name="q", max_age=60_000)
    def tick() -> None:
        message = dramatiq.middleware.CurrentMessage.get_current_message()
        assert message is not None
        seen.append(message)
        if len(seen) == 2:
            enough.set()

    old = tick.message().copy(message_timestamp=0)
    began = time.time()
    broker.enqueue_recurring(old, "@every 1s", schedule_id="ticker")
    work()
    assert enough.wait(60)
    assert broker.cancel_recurring("q", "ticker")
    assert not broker.cancel_recurring("q", "ticker")
    assert len({message.message_id for message in seen}) == len(seen)
    assert all(began - 1 < m.message_timestamp / 1000 < time.time() + 1 for m in seen)


def test_a_firing_delivered_twice_has_the_same_id(broker: NatsBroker) -> None:
    """An actor can deduplicate firings by message id."""
    broker.declare_queue("q")
    broker.enqueue_recurring(_message(), "* * * * * *", schedule_id="s", time_zone="UTC")
    consumer = broker.consume("q", timeout=60_000)
    first = next(consumer)
    assert first is not None
    broker.cancel_recurring("q", "s")
    consumer.requeue([first])
    while (second := next(consumer)) is not None and second.deliveries == 1:
        consumer.ack(second)  # a further firing, before the schedule was cancelled
    assert second is not None
    assert second.message_id == first.message_id
    assert second.message_timestamp == first.message_timestamp
    consumer.close()


@pytest.mark.parametrize(
    ("pattern", "zone"), [("@every 1ms", None), ("soon", None), ("* * * * * *", "No/Where")]
)
def test_an_invalid_pattern_is_refused(broker: NatsBroker, pattern: str, zone: str | None) -> None:
    """The error names the pattern."""
    with pytest.raises(ValueError, match="is not a schedule"):
        broker.enqueue_recurring(_message(), pattern, schedule_id="s", time_zone=zone)


def _message(number: int = 0, **options: Any) -> "dramatiq.Message[Any]":
    return dramatiq.Message(
        queue_name="q", actor_name="none", args=(number,), kwargs={}, options=options
    )
