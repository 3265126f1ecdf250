"""Results can be stored and read on any backend."""

# ruff: noqa: ARG001 - some fixtures only take effect, and actors ignore arguments

import threading
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import pytest
from dramatiq import Broker, Worker
from dramatiq.results import ResultBackend, ResultFailure, ResultMissing, Results, ResultTimeout

Run = Callable[..., Worker]


@pytest.fixture(autouse=True)
def results(broker: Broker, result_backend: ResultBackend) -> None:
    """Add the results middleware to the broker."""
    broker.add_middleware(Results(backend=result_backend))


@pytest.fixture
def message(broker: Broker) -> "dramatiq.Message[Any]":
    """A message that is never enqueued."""
    return dramatiq.Message(queue_name="q", actor_name="a", args=(), kwargs={}, options={})


@pytest.mark.parametrize("block", [True, False])
def test_actors_can_store_results(broker: Broker, run: Run, block: bool) -> None:
    """A caller can wait for a result, or read it later."""

    @dramatiq.actor(store_results=True)
    def work() -> dict[str, Any]:
        return {"answer": 42}

    sent = work.send()
    worker = run()
    if not block:
        broker.join("default", timeout=60_000)
        worker.join()
    assert sent.get_result(block=block, timeout=60_000) == {"answer": 42}


def test_a_missing_result_is_an_error(broker: Broker, message: "dramatiq.Message[Any]") -> None:
    """Reading the result of a message that has not run raises ``ResultMissing``."""
    with pytest.raises(ResultMissing):
        message.get_result()


def test_waiting_for_a_result_can_time_out(
    broker: Broker, message: "dramatiq.Message[Any]"
) -> None:
    """Waiting ends with the timeout, also below a second."""
    with pytest.raises(ResultTimeout):
        message.get_result(block=True, timeout=200)


def test_results_expire(
    broker: Broker, result_backend: ResultBackend, message: "dramatiq.Message[Any]"
) -> None:
    """A result is missing only after its TTL."""
    before = time.monotonic()
    result_backend.store_result(message, 1, ttl=1000)
    with pytest.raises(ResultMissing):
        read_until_missing(message)
    assert time.monotonic() - before > 0.95


def read_until_missing(message: "dramatiq.Message[Any]") -> None:
    """Read a result until it is missing."""
    while message.get_result() == 1:
        time.sleep(0.05)


def test_none_is_a_result(
    broker: Broker, result_backend: ResultBackend, message: "dramatiq.Message[Any]"
) -> None:
    """A stored None differs from a missing result."""
    result_backend.store_result(message, None, ttl=60_000)
    assert message.get_result(block=True) is None


def test_a_failure_is_a_result(broker: Broker, run: Run) -> None:
    """Reading the result of a failed actor raises its last exception."""

    @dramatiq.actor(store_results=True, max_retries=0)
    def failing() -> None:
        raise ValueError("no luck")

    sent = failing.send()
    run()
    with pytest.raises(ResultFailure, match="ValueError: no luck"):
        sent.get_result(block=True, timeout=60_000)


def test_a_new_result_wakes_its_waiters(
    broker: Broker, result_backend: ResultBackend, message: "dramatiq.Message[Any]"
) -> None:
    """A result that is stored while a caller waits ends the wait."""
    timer = threading.Timer(0.2, result_backend.store_result, (message, "here", 60_000))
    timer.start()
    assert message.get_result(block=True, timeout=60_000) == "here"
    timer.join()


def test_readable_keys_work_like_hashed_ones(
    broker: Broker, result_backend: ResultBackend, message: "dramatiq.Message[Any]"
) -> None:
    """Keys may be readable instead of hashed, with any queue name."""
    result_backend.use_namespace_prefix_keys = True
    other = message.copy(queue_name="a.b c")
    result_backend.store_result(message, 1, ttl=60_000)
    result_backend.store_result(other, 2, ttl=60_000)
    assert message.get_result() == 1
    assert other.get_result() == 2
