"""Scheduled work does not block the event loop, and survives failures of other work."""

import asyncio
import time
from collections.abc import Iterator

from tailrace_api.fanout.runtime.cooperative_scheduler import CooperativeScheduler


async def test_the_event_loop_stays_responsive_under_load() -> None:
    """Ten thousand steps of 20 µs are 200 ms; others are served many times meanwhile."""
    turns, done = CooperativeScheduler(), asyncio.Event()

    def work() -> Iterator[None]:
        for _ in range(10_000):
            until = time.perf_counter() + 20e-6
            while time.perf_counter() < until:
                pass
            yield
        done.set()

    turns.add(work())
    rounds = 0
    while not done.is_set():
        await asyncio.sleep(0)
        rounds += 1
    assert rounds > 10


async def test_work_is_stepped_round_robin() -> None:
    """Short work does not wait for the end of long work."""
    turns, order = CooperativeScheduler(), []
    finished = asyncio.Event()

    def work(name: str, steps: int) -> Iterator[None]:
        for _ in range(steps):
            yield
        order.append(name)
        if len(order) == 2:
            finished.set()

    turns.add(work("long", 5000))
    turns.add(work("short", 3))
    await finished.wait()
    assert order == ["short", "long"]


async def test_failing_work_does_not_affect_other_work() -> None:
    """It is logged and dropped."""
    turns, done = CooperativeScheduler(), asyncio.Event()

    def failing() -> Iterator[None]:
        yield
        raise RuntimeError("a bug")

    def other() -> Iterator[None]:
        yield
        done.set()

    turns.add(failing())
    turns.add(other())
    async with asyncio.timeout(60):
        await done.wait()
