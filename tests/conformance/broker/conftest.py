"""The brokers and backends under test: Dramatiq's stubs and those on NATS must behave alike."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import dramatiq
import pytest
from dramatiq import Broker, Worker
from dramatiq.brokers.stub import StubBroker
from dramatiq.middleware import CurrentMessage
from dramatiq.rate_limits import RateLimiterBackend
from dramatiq.rate_limits.backends import StubBackend as StubRateLimiterBackend
from dramatiq.results import ResultBackend
from dramatiq.results.backends import StubBackend as StubResultBackend

from harness.nats.deployment import NatsDeployment
from tailrace_worker.broker import NatsBroker
from tailrace_worker.broker.backends.rate_limits import NatsRateLimiterBackend
from tailrace_worker.broker.backends.results import NatsResultBackend


@pytest.fixture(params=["stub", "nats"])
def broker(request: pytest.FixtureRequest, shared_nats: NatsDeployment) -> Iterator[Broker]:
    """A broker of either kind, with a subject prefix of its own."""
    made: Broker
    if request.param == "stub":
        made = StubBroker(fail_fast_default=False)
    else:
        made = NatsBroker(
            shared_nats.url,
            prefix=f"t{uuid4().hex[:8]}",
            replicas=shared_nats.replicas,
            ack_wait=600,  # too long for a redelivery within a test
        )
    made.add_middleware(CurrentMessage())
    made.emit_after("process_boot")
    dramatiq.set_broker(made)
    yield made
    made.close()


@pytest.fixture
def run(broker: Broker) -> Iterator[Callable[..., Worker]]:
    """Start a worker on the broker, one at a time; it is stopped at the end of the test."""
    running: list[Worker] = []

    def is_running(worker: Worker) -> bool:
        return any(thread.running for thread in worker.workers)

    def start(threads: int = 4) -> Worker:
        if not running or not is_running(running[-1]):
            running.append(Worker(broker, worker_timeout=50, worker_threads=threads))
            running[-1].start()
        return running[-1]

    yield start
    if running and is_running(running[-1]):
        running[-1].stop()


@pytest.fixture
def finish(broker: Broker, run: Callable[..., Worker]) -> Callable[..., None]:
    """Run a worker until the queue is empty, delayed messages included."""

    def until_empty(queue: str = "default", *, timeout: int = 60_000) -> None:
        worker = run()
        broker.join(queue, timeout=timeout)
        worker.join()

    return until_empty


@pytest.fixture
def dead(broker: Broker) -> Callable[[], list[str]]:
    """Return the message ids of all dead letters."""

    def ids() -> list[str]:
        letters: Any = broker.dead_letters  # type: ignore[attr-defined]
        if isinstance(broker, StubBroker):
            return [letter.message_id for letter in letters]
        return [letter.message["message_id"] for letter in letters.list()]

    return ids


@pytest.fixture
def result_backend(broker: Broker) -> ResultBackend:
    """The result backend that belongs to the broker."""
    return NatsResultBackend(broker) if isinstance(broker, NatsBroker) else StubResultBackend()


@pytest.fixture
def rate_limiter_backend(broker: Broker) -> RateLimiterBackend:
    """The rate-limiter backend that belongs to the broker."""
    if isinstance(broker, NatsBroker):
        return NatsRateLimiterBackend(broker)
    return StubRateLimiterBackend()
