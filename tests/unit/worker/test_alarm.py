"""What wakes a drive: rings, times, silences."""

import asyncio

import pytest

from tailrace_worker.engine.tasks.wakeup import WakeUp

LONG, SHORT = 1000.0, 0.001


def alarm(patience: float = LONG) -> WakeUp:
    """Return an alarm on the test's own loop."""
    return WakeUp(asyncio.get_running_loop(), patience)


async def test_a_ring_ends_the_wait_that_is_under_way_and_the_next_one() -> None:
    """Until it is reset: what rang while nobody waited is not forgotten."""
    bell = alarm()
    waiting = asyncio.create_task(bell.wait(None, minds_silence=True))
    await asyncio.sleep(0)
    bell.ring()
    assert not await waiting
    assert not await bell.wait(LONG, minds_silence=True)
    bell.reset()
    assert not bell.has_rung
    bell.stop()


async def test_it_rings_at_its_time() -> None:
    """Which is no long silence."""
    bell = alarm()
    assert not await bell.wait(SHORT, minds_silence=True)
    assert bell.has_rung
    bell.stop()


async def test_a_long_silence_rings_and_is_told_once() -> None:
    """And not of a wait that was over before."""
    bell = alarm(SHORT)
    assert await bell.wait(None, minds_silence=True)
    bell.ring()
    assert not await bell.wait(None, minds_silence=False)


async def test_one_that_is_stopped_minds_no_silence() -> None:
    """Nothing is left on the loop that would ring."""
    bell = alarm(SHORT)
    waiting = asyncio.create_task(bell.wait(None, minds_silence=True))
    await asyncio.sleep(0)
    bell.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0.05)
