"""Dramatiq's worker, with idle threads that do not poll.

Dramatiq's threads wake several times a second, all at the same moment, to see whether to stop.
While another thread computes, each of a hundred threads then demands the interpreter's lock two
thousand times a second, and the event loop and the probes queue behind them.
"""

from queue import Empty, PriorityQueue
from typing import Any

import dramatiq


class WorkQueue(PriorityQueue[Any]):
    """A queue whose readers wait without a timeout until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._is_closed = False

    def close(self) -> None:
        """Wake all readers; from now on none waits."""
        with self.mutex:
            self._is_closed = True
            self.not_empty.notify_all()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: ARG002 - the base class's
        """Return an item.

        Args:
            block: whether to wait for an item until the queue is closed.
            timeout: ignored.

        Raises:
            Empty: there is none.
        """
        with self.not_empty:
            if block:
                self.not_empty.wait_for(lambda: self._is_closed or self._qsize() > 0)
            if not self._qsize():
                raise Empty
            return self._get()


class Worker(dramatiq.Worker):
    """A worker whose idle threads wake for messages and for the stop only."""

    def __init__(
        self, broker: dramatiq.Broker, *, worker_threads: int, worker_timeout: int
    ) -> None:
        super().__init__(broker, worker_threads=worker_threads, worker_timeout=worker_timeout)
        self.work_queue: WorkQueue = WorkQueue()

    def stop(self, timeout: int = 600_000) -> None:
        """Stop all threads, within ``timeout`` milliseconds."""
        for thread in self.workers:
            thread.stop()
        self.work_queue.close()
        super().stop(timeout=timeout)
