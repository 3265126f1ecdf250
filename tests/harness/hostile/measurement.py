"""How long operations take, and how much of that is the installation's own."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator

import msgspec

from harness.processes.process_usage import cpu_seconds, cpu_wait_seconds


class Slowest(msgspec.Struct):
    """The slowest of the operations of one kind, each figure by itself, in seconds.

    Attributes:
        count: how many there were.
        elapsed: the time from the beginning to the end.
        own: the same without the time for which threads were ready to run and had no CPU.
        work: the CPU time that the busiest process of the installation used meanwhile. On a machine
            with enough processors an operation that waits for a process takes as long. It does
            not depend on what else the machine does.
    """

    count: int = 0
    elapsed: float = 0.0
    own: float = 0.0
    work: float = 0.0


Report = dict[str, Slowest]


class Measurements:
    """The slowest of each kind of operation. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slowest: Report = {}

    def add(self, what: str, elapsed: float, own: float, work: float) -> None:
        """Record an operation."""
        with self._lock:
            kind = self._slowest.setdefault(what, Slowest())
            kind.count += 1
            kind.elapsed = max(kind.elapsed, elapsed)
            kind.own = max(kind.own, own)
            kind.work = max(kind.work, work)

    def take(self) -> Report:
        """Return what was recorded since the last call."""
        with self._lock:
            found, self._slowest = self._slowest, {}
        return found


class Clock:
    """Measures operations that some processes carry out one after the other.

    Of processes with idle threads that wake now and then, the thread that waited longest for a CPU
    counts.

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
        used, before = self._used(), self._waits()
        began = time.perf_counter()
        yield
        elapsed = time.perf_counter() - began
        after = self._waits()
        work = max(now - then for now, then in zip(self._used(), used, strict=True))
        grown = [
            [wait - old.get(thread, 0.0) for thread, wait in new.items()]
            for old, new in zip(before, after, strict=True)
        ]
        waited = sum(grown[0]) + sum(max(waits, default=0.0) for waits in grown[1:])
        self._measured.add(what, elapsed, elapsed - waited, work)

    def _used(self) -> list[float]:
        return [cpu_seconds(pid) for pid in (self._api, *self._pids)]

    def _waits(self) -> list[dict[str, float]]:
        own = str(threading.get_native_id())
        here = {own: cpu_wait_seconds(os.getpid()).get(own, 0.0)}
        return [cpu_wait_seconds(self._api), here, *map(cpu_wait_seconds, self._pids)]
