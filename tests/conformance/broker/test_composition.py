"""Pipelines and groups run over any broker."""

# ruff: noqa: ARG001 - some fixtures only take effect, and actors ignore arguments

from collections.abc import Callable

import dramatiq
import pytest
from dramatiq import Broker, Worker, group, pipeline
from dramatiq.middleware import GroupCallbacks
from dramatiq.rate_limits import RateLimiterBackend
from dramatiq.results import ResultBackend, Results, ResultTimeout

Run = Callable[..., Worker]


@pytest.fixture
def results(broker: Broker, result_backend: ResultBackend) -> None:
    """Add the results middleware to the broker."""
    broker.add_middleware(Results(backend=result_backend))


@pytest.mark.usefixtures("results")
def test_messages_can_be_piped(broker: Broker, run: Run) -> None:
    """Each actor of a pipeline receives its predecessor's result."""

    @dramatiq.actor(store_results=True)
    def add(x: int, y: int = 0) -> int:
        return x + y

    pipe = add.message(1, 2) | add.message(3) | add.message(4)
    pipe.run()
    run()
    assert pipe.get_result(block=True, timeout=60_000) == 10
    assert list(pipe.get_results()) == [3, 6, 10]
    assert pipe.completed


@pytest.mark.usefixtures("results")
def test_pipelines_can_be_delayed(broker: Broker, run: Run) -> None:
    """A pipeline may start with a delay, and wait between its steps."""

    @dramatiq.actor(store_results=True)
    def add(x: int, y: int = 0) -> int:
        return x + y

    pipe = pipeline([add.message(1, 2), add.message_with_options(args=(3,), delay=100)])
    pipe.run(delay=100)
    run()
    assert pipe.get_result(block=True, timeout=60_000) == 6


@pytest.mark.usefixtures("results")
def test_groups_run_messages_concurrently(broker: Broker, run: Run) -> None:
    """The results of a group have the order of its messages."""

    @dramatiq.actor(store_results=True)
    def square(x: int) -> int:
        return x * x

    numbers = group(square.message(x) for x in range(10))
    numbers.run()
    run()
    assert list(numbers.get_results(block=True, timeout=60_000)) == [x * x for x in range(10)]
    assert numbers.completed_count == 10


@pytest.mark.usefixtures("results")
def test_groups_can_time_out(broker: Broker) -> None:
    """Waiting for results ends with the timeout if no worker runs."""

    @dramatiq.actor(store_results=True)
    def never() -> None: ...

    numbers = group([never.message()])
    numbers.run()
    with pytest.raises(ResultTimeout):
        list(numbers.get_results(block=True, timeout=200))


def test_groups_call_back_when_all_are_done(
    broker: Broker,
    run: Run,
    rate_limiter_backend: RateLimiterBackend,
) -> None:
    """The completion callback runs once, after the last message of the group."""
    broker.add_middleware(GroupCallbacks(rate_limiter_backend))
    ran: list[str] = []

    @dramatiq.actor
    def work() -> None:
        ran.append("work")

    @dramatiq.actor
    def done() -> None:
        ran.append("done")

    numbers = group(work.message() for _ in range(5))
    numbers.add_completion_callback(done.message())
    numbers.run()
    worker = run()
    broker.join("default", timeout=60_000)
    worker.join()
    assert ran == ["work"] * 5 + ["done"]
