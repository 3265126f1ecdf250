"""A broker on NATS, and worker processes that may be killed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import dramatiq
import pytest
from dramatiq import Worker

from harness.nats.deployment import NatsDeployment
from harness.processes.worker_fleet import WorkerFleet
from tailrace_worker.broker import NatsBroker

PROGRAM = Path(__file__).with_name("program.py")


@pytest.fixture
def broker(shared_nats: NatsDeployment) -> Iterator[NatsBroker]:
    """A broker with a subject prefix of its own, on the shared server."""
    # Too long for a redelivery within a test.
    made = NatsBroker(
        shared_nats.url,
        prefix=f"t{uuid4().hex[:8]}",
        replicas=shared_nats.replicas,
        ack_wait=600,
    )
    dramatiq.set_broker(made)
    yield made
    made.close()


@pytest.fixture
def work(broker: NatsBroker) -> Iterator[Callable[..., Worker]]:
    """Start a worker in this process; it is stopped at the end of the test."""
    workers: list[Worker] = []

    def start(threads: int = 2) -> Worker:
        worker = Worker(broker, worker_timeout=50, worker_threads=threads)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture
def fleet(isolated_nats: NatsDeployment, tmp_path: Path) -> Iterator[WorkerFleet]:
    """Worker processes on a NATS server of their own, or on the shared cluster."""
    made = WorkerFleet(PROGRAM, isolated_nats, tmp_path)
    made.ack_wait = 4.0
    yield made
    made.close()
