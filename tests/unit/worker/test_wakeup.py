"""The wake-ups of a drive: events, times, silences."""

import asyncio

import pytest

from tailrace_worker.engine.tasks.wakeup import WakeUp

LONG, SHORT = 1000.0, 0.001


def wakeup(silence_s: float = LONG) -> WakeUp:
    """Return an alarm on the test's own loop."""
    return WakeUp(asyncio.get_running_loop(), silence_s)


async def test_a_ring_ends_the_wait_that_is_under_way_and_the_next_one() -> None:
    """Until it is cleared: it stays set while no drive waits."""
    wakeup_ = wakeup()
    waiting = asyncio.create_task(wakeup_.wait(None, notice_silence=True))
    await asyncio.sleep(0)
    wakeup_.set()
    assert not await waiting
    assert not await wakeup_.wait(LONG, notice_silence=True)
    wakeup_.clear()
    assert not wakeup_.is_set
    wakeup_.stop()


async def test_it_rings_at_its_time() -> None:
    """Which is no long silence."""
    wakeup_ = wakeup()
    assert not await wakeup_.wait(SHORT, notice_silence=True)
    assert wakeup_.is_set
    wakeup_.stop()


async def test_a_long_silence_sets_it_once() -> None:
    """And not of a wait that was over before."""
    wakeup_ = wakeup(SHORT)
    assert await wakeup_.wait(None, notice_silence=True)
    wakeup_.set()
    assert not await wakeup_.wait(None, notice_silence=False)


async def test_one_that_is_stopped_minds_no_silence() -> None:
    """Nothing is left on the loop that would ring."""
    wakeup_ = wakeup(SHORT)
    waiting = asyncio.create_task(wakeup_.wait(None, notice_silence=True))
    await asyncio.sleep(0)
    wakeup_.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0.05)
