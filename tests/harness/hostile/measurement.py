"""How long operations take, and how much of that the machine had no CPU for them."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from harness.processes.process_usage import cpu_wait_seconds


class Measurements:
    """The slowest of each kind of operation. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slowest: dict[str, dict[str, Any]] = {}

    def add(self, what: str, elapsed: float, waited: float) -> None:
        """Record an operation.

        Args:
            what: its kind.
            elapsed: how long it took, in seconds.
            waited: for how long of that processes waited for a CPU.
        """
        with self._lock:
            kind = self._slowest.setdefault(what, {"count": 0, "elapsed": 0.0, "own": 0.0})
            kind["count"] += 1
            kind["elapsed"] = max(kind["elapsed"], elapsed)
            kind["own"] = max(kind["own"], elapsed - waited)

    def take(self) -> dict[str, dict[str, Any]]:
        """Return what was recorded since the last call."""
        with self._lock:
            found, self._slowest = self._slowest, {}
        return found


class Clock:
    """Measures operations that some processes carry out one after the other.

    A machine that has more work than processors delays everything. That delay is measured, too:
    how long threads of this process and of the others were ready to run and had no CPU. Of
    processes with idle threads that wake now and then, the thread that waited longest counts.

    Args:
        measured: where it records times.
        pids: the processes that carry out the operations.
        api: one more process. Its threads need the lock of the interpreter, so one waits for the
            CPU while the others wait for the lock: their times add up.
    """

    def __init__(self, measured: Measurements, *pids: int, api: int) -> None:
        self._measured = measured
        self._pids = pids
        self._api = api

    @contextlib.contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Measure the block."""
        before = self._waits()
        began = time.perf_counter()
        yield
        elapsed = time.perf_counter() - began
        after = self._waits()
        grown = [
            [wait - old.get(thread, 0.0) for thread, wait in new.items()]
            for old, new in zip(before, after, strict=True)
        ]
        waited = sum(grown[0]) + sum(max(waits, default=0.0) for waits in grown[1:])
        self._measured.add(what, elapsed, waited)

    def _waits(self) -> list[dict[str, float]]:
        own = str(threading.get_native_id())
        here = {own: cpu_wait_seconds(os.getpid()).get(own, 0.0)}
        return [cpu_wait_seconds(self._api), here, *map(cpu_wait_seconds, self._pids)]
