"""An executor whose only thread is the one that calls it."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from dramatiq.middleware import Interrupt, TimeLimitExceeded, raise_thread_exception

from tailrace_worker.engine.actors.thread_executor import AttemptInterrupted, DramatiqThreadExecutor


@pytest.fixture
def serving():
    """A thread that serves, the executor, and what it was interrupted with."""
    ready: Future[DramatiqThreadExecutor] = Future()
    interrupts: list[Interrupt] = []

    def serve():
        thread = DramatiqThreadExecutor()
        ready.set_result(thread)
        thread.serve(interrupts.append)
        return threading.get_ident()

    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(serve)
        thread = ready.result(60)
        yield thread, served, interrupts
        thread.close()
        served.result(60)


def until(condition):
    """Wait until a condition is true; the threads under test have nothing to wait for."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def spin():
    """Run until something is raised."""
    while True:
        time.sleep(0.005)


def test_what_is_submitted_runs_on_the_calling_thread(serving):
    """One after the other, and its result comes back."""
    thread, served, _ = serving
    futures = [thread.submit(lambda n: (n, threading.get_ident()), n) for n in range(3)]
    results = [future.result(60) for future in futures]
    thread.close()
    assert results == [(n, served.result(60)) for n in range(3)]


def test_a_closed_executor_releases_its_thread_when_it_is_free(serving):
    """It does not release it during a function."""
    thread, served, _ = serving
    hold = threading.Event()
    future = thread.submit(hold.wait)
    until(lambda: thread.is_busy)
    thread.close()
    assert not served.done()
    hold.set()
    assert future.result(60)
    served.result(60)
    assert not thread.is_busy


def test_a_function_is_interrupted_and_can_clean_up(serving):
    """The exception is raised inside it, and its future ends with it."""
    thread, _, interrupts = serving
    cleaned: list[bool] = []

    def function():
        try:
            spin()
        finally:
            cleaned.append(True)

    future = thread.submit(function)
    until(lambda: thread.is_busy)
    thread.interrupt()
    until(lambda: interrupts)
    assert isinstance(interrupts[0], AttemptInterrupted)
    assert cleaned == [True]
    with pytest.raises(AttemptInterrupted):
        future.result(60)
    assert thread.submit(lambda: "goes on").result(60) == "goes on"


@pytest.mark.parametrize("error", [AttemptInterrupted, GeneratorExit, SystemExit, BaseException])
def test_what_a_function_raises_ends_its_future(serving, error):
    """An attempt without an outcome would never end; the thread serves the next one."""
    thread, _, _ = serving

    def function():
        raise error

    with pytest.raises(error):
        thread.submit(function).result(60)
    assert thread.submit(lambda: "goes on").result(60) == "goes on"


def test_a_thread_that_runs_nothing_is_not_interrupted(serving):
    """The exception would hit what the thread does next."""
    thread, _, interrupts = serving
    thread.interrupt()
    assert thread.submit(lambda: "unharmed").result(60) == "unharmed"
    assert interrupts == []


def test_dramatiqs_interrupts_are_reported_with_or_without_a_running_function(serving):
    """A time limit passes for asynchronous functions too, for which the thread only waits."""
    thread, _, interrupts = serving
    raise_thread_exception(thread._thread, TimeLimitExceeded)
    until(lambda: interrupts)
    thread.submit(spin)
    until(lambda: thread.is_busy)
    raise_thread_exception(thread._thread, TimeLimitExceeded)
    until(lambda: len(interrupts) == 2)
    assert {type(interrupt) for interrupt in interrupts} == {TimeLimitExceeded}


def test_a_call_that_was_cancelled_before_its_turn_is_not_made(serving):
    """Its attempt has timed out meanwhile."""
    thread, _, _ = serving
    hold = threading.Event()
    made: list[bool] = []
    first = thread.submit(hold.wait)
    second = thread.submit(made.append, True)
    assert second.cancel()
    hold.set()
    assert first.result(60)
    assert thread.submit(lambda: list(made)).result(60) == []
