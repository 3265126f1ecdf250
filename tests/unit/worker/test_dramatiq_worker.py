"""Dramatiq's worker without polling threads."""

import queue
import threading

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from tailrace_worker.dramatiq_worker import Worker, WorkQueue

_LIMIT_S = 60.0


class ObservedQueue(WorkQueue):
    """A queue that counts how often its readers wake."""

    def __init__(self):
        super().__init__()
        self.waiting = threading.Semaphore(0)
        self.looked = 0

    def _qsize(self):
        self.looked += 1
        self.waiting.release()
        return super()._qsize()


def test_a_reader_waits_until_an_item_comes():
    """Its timeout has passed long before, and it has not looked again."""
    work, found = ObservedQueue(), []
    reader = threading.Thread(target=lambda: found.append(work.get(timeout=0.0)), daemon=True)
    reader.start()
    assert work.waiting.acquire(timeout=_LIMIT_S)
    with work.mutex:
        # The reader has given the lock up, so it waits.
        looked = work.looked
    work.put("item")
    reader.join(_LIMIT_S)
    assert (looked, found) == (1, ["item"])


def test_a_closed_queue_gives_what_it_has_and_lets_no_reader_wait():
    """Dramatiq empties it after its threads have ended."""
    work = WorkQueue()
    work.put(1)
    work.close()
    assert work.get() == 1
    with pytest.raises(queue.Empty):
        work.get()
    with pytest.raises(queue.Empty):
        work.get_nowait()


def test_a_worker_works_and_stops():
    """Idle threads do not wait for a timeout."""
    broker, done = StubBroker(), threading.Event()
    actor = dramatiq.actor(broker=broker, actor_name="work")(done.set)
    worker = Worker(broker, worker_threads=4, worker_timeout=10)
    worker.start()
    actor.send()
    assert done.wait(_LIMIT_S)
    worker.stop(timeout=int(_LIMIT_S * 1000))
    assert not any(thread.is_alive() for thread in worker.workers)
