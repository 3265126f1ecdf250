"""Actors run as Dramatiq documents on any broker: retries, limits, callbacks, shutdown."""

# ruff: noqa: ARG001, ARG002 - some fixtures only take effect, and actors ignore arguments

import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import dramatiq
import pytest
from dramatiq import Broker, Worker
from dramatiq.middleware import AsyncIO, CurrentMessage, Middleware, SkipMessage, TimeLimitExceeded
from dramatiq.middleware.shutdown import Shutdown

Finish = Callable[..., None]
Run = Callable[..., Worker]
Dead = Callable[[], list[str]]


def test_actors_can_be_sent_messages(broker: Broker, finish: Finish) -> None:
    """Every message sent is run once, with its arguments."""
    seen: list[tuple[int, str]] = []

    @dramatiq.actor
    def record(number: int, *, word: str) -> None:
        seen.append((number, word))

    for number in range(50):
        record.send(number, word=f"é{number}")
    finish()
    assert sorted(seen) == [(number, f"é{number}") for number in range(50)]


def test_actors_can_be_sent_messages_of_any_json(broker: Broker, finish: Finish) -> None:
    """Arguments survive JSON encoding, large ones included."""
    seen: list[Any] = []

    @dramatiq.actor
    def record(value: Any) -> None:
        seen.append(value)

    values: list[Any] = [None, True, 1.5, "x" * 300_000, {"a": [1, {"b": ""}]}, []]
    for value in values:
        record.send(value)
    finish()
    assert sorted(map(repr, seen)) == sorted(map(repr, values))


def test_actors_have_queues_of_their_own(broker: Broker, finish: Finish) -> None:
    """Queue names may contain dots, dashes and underscores, and queues do not mix."""
    seen: list[str] = []
    for name in ("a", "a.b", "a-b_c", "A"):

        @dramatiq.actor(actor_name=f"record_{name}", queue_name=name)
        def record(name: str = name) -> None:
            seen.append(name)

        record.send()
    for name in ("a", "a.b", "a-b_c", "A"):
        finish(name)
    assert sorted(seen) == ["A", "a", "a-b_c", "a.b"]


def test_actors_can_send_messages(broker: Broker, finish: Finish) -> None:
    """An actor may enqueue from its worker thread."""
    seen: list[int] = []

    @dramatiq.actor
    def count_down(number: int) -> None:
        seen.append(number)
        if number:
            count_down.send(number - 1)

    count_down.send(10)
    finish()
    assert seen == list(range(10, -1, -1))


def test_actors_retry_with_backoff_on_failure(broker: Broker, finish: Finish) -> None:
    """A failing message is run again later, not at once, until it succeeds."""
    attempts: list[float] = []

    @dramatiq.actor(min_backoff=100, max_backoff=200)
    def flaky() -> None:
        attempts.append(time.monotonic())
        if len(attempts) < 3:
            raise RuntimeError("not yet")

    flaky.send()
    finish()
    assert len(attempts) == 3
    # Dramatiq counts in whole milliseconds.
    assert all(after - before > 0.095 for before, after in pairwise(attempts))


def test_retries_keep_the_message_id_and_count(broker: Broker, finish: Finish) -> None:
    """A retry has the same message id and a count of its retries."""
    seen: list[tuple[str, int]] = []

    @dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=1)
    def failing() -> None:
        message = CurrentMessage.get_current_message()
        assert message is not None
        seen.append((message.message_id, message.options.get("retries", 0)))
        raise RuntimeError

    sent = failing.send()
    finish()
    assert seen == [(sent.message_id, count) for count in range(3)]


def test_messages_that_exhaust_their_retries_are_dead_lettered(
    broker: Broker, finish: Finish, dead: Dead
) -> None:
    """After the last retry a message becomes a dead letter."""
    attempts = 0

    @dramatiq.actor(max_retries=1, min_backoff=1, max_backoff=1)
    def failing() -> None:
        nonlocal attempts
        attempts += 1
        raise RuntimeError("no")

    sent = failing.send()
    finish()
    assert attempts == 2
    assert dead() == [sent.message_id]


def test_a_message_without_retries_is_dead_lettered_at_once(
    broker: Broker, finish: Finish, dead: Dead
) -> None:
    """With ``max_retries=0`` the first failure is final."""

    @dramatiq.actor(max_retries=0)
    def failing() -> None:
        raise RuntimeError("no")

    sent = failing.send()
    finish()
    assert dead() == [sent.message_id]


def test_exceptions_an_actor_throws_on_purpose_are_not_retried(
    broker: Broker, finish: Finish, dead: Dead
) -> None:
    """An exception in ``throws`` makes the message a dead letter."""
    attempts = 0

    @dramatiq.actor(throws=ValueError, min_backoff=1)
    def picky() -> None:
        nonlocal attempts
        attempts += 1
        raise ValueError("bad input")

    sent = picky.send()
    finish()
    assert attempts == 1
    assert dead() == [sent.message_id]


def test_actors_can_request_a_retry_after_a_delay(broker: Broker, finish: Finish) -> None:
    """``Retry`` sets its own delay."""
    attempts: list[float] = []

    @dramatiq.actor
    def again() -> None:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            raise dramatiq.Retry("later", delay=150)

    again.send()
    finish()
    assert attempts[1] - attempts[0] > 0.145  # in whole milliseconds


def test_retry_when_decides(broker: Broker, finish: Finish, dead: Dead) -> None:
    """``retry_when`` overrides ``max_retries``."""
    attempts = 0

    @dramatiq.actor(
        retry_when=lambda retries, error: isinstance(error, KeyError) and retries < 2,
        max_retries=0,
        min_backoff=1,
        max_backoff=1,
    )
    def failing() -> None:
        nonlocal attempts
        attempts += 1
        raise KeyError

    sent = failing.send()
    finish()
    assert attempts == 3
    assert dead() == [sent.message_id]


def test_actors_can_be_notified_of_exhausted_retries(broker: Broker, finish: Finish) -> None:
    """``on_retry_exhausted`` receives the message that failed."""
    received: list[Any] = []

    @dramatiq.actor
    def funeral(message: dict[str, Any], retries: dict[str, Any]) -> None:
        received.append((message["actor_name"], retries["max_retries"]))

    @dramatiq.actor(max_retries=0, on_retry_exhausted="funeral")
    def failing() -> None:
        raise RuntimeError

    failing.send()
    finish()
    assert received == [("failing", 0)]


def test_actors_can_be_delayed(broker: Broker, finish: Finish) -> None:
    """A delayed message never runs before its delay is over."""
    ran: list[float] = []

    @dramatiq.actor
    def later() -> None:
        ran.append(time.time())

    sent = time.time()
    later.send_with_options(delay=300)
    finish()
    assert len(ran) == 1
    assert ran[0] - sent > 0.295  # in whole milliseconds


def test_delayed_messages_run_in_the_order_of_their_delays(broker: Broker, run: Run) -> None:
    """The message that is due first runs first, although it was enqueued later."""
    order: list[str] = []
    ran = threading.Event()

    @dramatiq.actor
    def record(name: str) -> None:
        order.append(name)
        ran.set()

    record.send_with_options(args=("slow",), delay=600_000)
    record.send_with_options(args=("fast",), delay=100)
    run()
    assert ran.wait(60)
    assert order == ["fast"]


@pytest.mark.parametrize("delay", [0, -5])
def test_a_delay_of_zero_or_less_means_now(broker: Broker, finish: Finish, delay: int) -> None:
    """The message runs at once."""
    ran = threading.Event()

    @dramatiq.actor
    def now() -> None:
        ran.set()

    now.send_with_options(delay=delay)
    finish()
    assert ran.is_set()


def test_actors_can_be_assigned_time_limits(broker: Broker, finish: Finish, dead: Dead) -> None:
    """An actor that takes too long is interrupted and its message dead-lettered."""
    interrupted = threading.Event()

    @dramatiq.actor(max_retries=0, time_limit=200)
    def sleepy() -> None:
        try:
            for _ in range(3000):
                time.sleep(0.02)
        except TimeLimitExceeded:
            interrupted.set()
            raise

    sent = sleepy.send()
    finish()
    assert interrupted.is_set()
    assert dead() == [sent.message_id]


def test_actors_can_be_assigned_message_age_limits(
    broker: Broker, finish: Finish, dead: Dead
) -> None:
    """A message older than its limit becomes a dead letter without being run."""
    ran = threading.Event()

    @dramatiq.actor(max_age=100)
    def fresh() -> None:
        ran.set()

    sent = broker.enqueue(fresh.message().copy(message_timestamp=int(time.time() * 1000) - 200))
    finish()
    assert not ran.is_set()
    assert dead() == [sent.message_id]


def test_actors_can_be_shutdown_notified(broker: Broker, run: Run) -> None:
    """A worker that stops interrupts the actors with ``notify_shutdown``."""
    started, received = threading.Event(), threading.Event()

    @dramatiq.actor(notify_shutdown=True, max_retries=3, min_backoff=1, max_backoff=1)
    def long() -> None:
        started.set()
        try:
            while not received.is_set():
                time.sleep(0.02)
        except Shutdown:
            received.set()
            raise

    long.send()
    worker = run()
    assert started.wait(60)
    worker.stop()
    assert received.is_set()


def test_actors_can_have_success_and_failure_callbacks(broker: Broker, finish: Finish) -> None:
    """Callbacks receive the result, or the exception."""
    received: list[tuple[str, Any]] = []

    @dramatiq.actor
    def succeeded(message: dict[str, Any], result: Any) -> None:
        received.append(("ok", result))

    @dramatiq.actor
    def failed(message: dict[str, Any], error: dict[str, str]) -> None:
        received.append(("no", error["type"]))

    @dramatiq.actor(max_retries=0)
    def work(good: bool) -> int:
        if not good:
            raise KeyError
        return 42

    work.send_with_options(args=(True,), on_success=succeeded)
    work.send_with_options(args=(False,), on_failure=failed)
    finish()
    assert sorted(received) == [("no", "KeyError"), ("ok", 42)]


def test_async_actors_run(broker: Broker, finish: Finish) -> None:
    """Coroutine functions are actors too."""
    broker.add_middleware(AsyncIO())
    seen: list[int] = []

    @dramatiq.actor
    async def record(number: int) -> None:
        seen.append(number)

    for number in range(10):
        record.send(number)
    finish()
    assert sorted(seen) == list(range(10))


def test_messages_of_undeclared_actors_are_dead_lettered(
    broker: Broker, finish: Finish, dead: Dead
) -> None:
    """A worker makes the messages of unknown actors dead letters."""
    broker.declare_queue("default")
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name="default", actor_name="undeclared", args=(), kwargs={}, options={}
    )
    broker.enqueue(message)
    finish()
    assert dead() == [message.message_id]


def test_middleware_can_skip_messages(broker: Broker, finish: Finish, dead: Dead) -> None:
    """A skipped message is acknowledged without being run."""
    ran = threading.Event()

    class Skip(Middleware):
        def before_process_message(self, broker: Broker, message: Any) -> None:
            raise SkipMessage

    broker.add_middleware(Skip())

    @dramatiq.actor
    def work() -> None:
        ran.set()

    work.send()
    finish()
    assert not ran.is_set()
    assert dead() == []


def test_urgent_actors_run_first_within_a_worker(broker: Broker, run: Run) -> None:
    """Among prefetched messages, the lower ``priority`` runs first."""
    order: list[str] = []
    gate, blocked = threading.Semaphore(0), threading.Barrier(3)

    @dramatiq.actor
    def block() -> None:
        blocked.wait(60)
        gate.acquire(timeout=60)

    @dramatiq.actor(priority=10)
    def low() -> None:
        order.append("low")

    @dramatiq.actor(priority=-10)
    def high() -> None:
        order.append("high")

    block.send()
    block.send()
    worker = run(threads=2)
    blocked.wait(60)
    low.send()
    high.send()
    while worker.work_queue.qsize() < 2:
        time.sleep(0.01)
    gate.release()  # one thread, so that they run one after the other
    while len(order) < 2:
        time.sleep(0.01)
    gate.release()
    broker.join("default", timeout=60_000)
    worker.join()
    assert order == ["high", "low"]
