"""The services that topics, history and connections depend on."""

import asyncio
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from tailrace_api.fanout.runtime.cooperative_scheduler import CooperativeScheduler
from tailrace_api.fanout.runtime.counts import Counts
from tailrace_api.fanout.runtime.limits import StreamTimes
from tailrace_api.fanout.runtime.load import Load
from tailrace_api.fanout.runtime.slow_client_buffer import SlowClientBuffer
from tailrace_api.fanout.runtime.turns import Turns
from tailrace_api.fanout.runtime.wheel import TimerWheel, WheelEntry
from tailrace_shared.process.tracing import Tracing

_TICK_S: Final = 0.05
_WHEEL_SLOTS: Final = 1024
# Relative jitter of the maximum age, so that streams opened together are not closed together.
_AGE_JITTER: Final = 0.25
_NEVER: Final = float("inf")


class StreamRuntime:
    """Clock, timers, scheduler and counters that all streams of a process share.

    Attributes:
        epoch: the epoch of the log, as far as this process knows.
        tracing: makes spans; None if nothing is traced.
        lost: the sequences that restores of the log have skipped, as far as this process knows.
        turns: the turns of openings.
        load: how busy the event loop is.
        reconcile_requested: set to have all topics compared with the log soon.
        now: the monotonic clock of the wheel, in seconds.
        cpu: the CPU time of the event loop's thread, in seconds.
        wall: the wall clock, in seconds since the Unix epoch.
    """

    def __init__(self, epoch: str, times: StreamTimes, max_backlog_bytes: int) -> None:
        self.epoch = epoch
        self.tracing: Tracing | None = None
        self.lost: tuple[tuple[int, int], ...] = ()
        self.times = times
        self.counts = Counts()
        self.reconcile_requested = asyncio.Event()
        self.slow_clients = SlowClientBuffer(max_backlog_bytes)
        self.scheduler = CooperativeScheduler()
        self.turns = Turns()
        self.cpu: Callable[[], float] = time.thread_time
        self.load = Load(asyncio.get_running_loop().time(), self.cpu())
        self.now: Callable[[], float] = asyncio.get_running_loop().time
        self.wall: Callable[[], float] = time.time
        self.wheel = TimerWheel(self.now(), tick=_TICK_S, slots=_WHEEL_SLOTS)

    def wall_milliseconds(self) -> int:
        return int(self.wall() * 1000)

    def retry_milliseconds(self) -> int:
        """Return a reconnect delay for one client.

        It is jittered: clients that lost their replica together must not reconnect together.
        """
        return int(self.times.retry * random.uniform(500, 1500))  # noqa: S311 - jitter

    def age_deadline(self) -> float:
        """Return when a stream that opens now reaches its maximum age; infinity without a limit.

        Closing old streams lets a replica that was added get its share of them.
        """
        jitter = random.uniform(1 - _AGE_JITTER, 1 + _AGE_JITTER)  # noqa: S311 - jitter
        return self.now() + self.times.age * jitter if self.times.age else _NEVER

    async def tick(self) -> None:
        """Advance the timer wheel until cancelled."""
        while True:
            expected = self.now() + _TICK_S
            await asyncio.sleep(_TICK_S)
            now = self.now()
            self.counts.stall.observe(max(now - expected, 0.0))
            self.load.observe(now, self.cpu())
            if due := self.wheel.advance(now):
                self.scheduler.add(_serve(due))


def _serve(due: Iterable[WheelEntry]) -> Iterator[None]:
    for entry in due:
        entry.on_deadline()
        yield
