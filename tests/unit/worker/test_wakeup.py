"""The wake-ups of a drive: events, times, silences."""

import asyncio

import pytest

from tailrace_worker.engine.tasks.wakeup import WakeUp

LONG, SHORT = 1000.0, 0.001


def wakeup(silence_s: float = LONG) -> WakeUp:
    """Return a wake-up on the test's own loop."""
    return WakeUp(asyncio.get_running_loop(), silence_s)


async def test_set_ends_the_current_wait_and_the_next_one() -> None:
    """It stays set until it is cleared."""
    wakeup_ = wakeup()
    waiting = asyncio.create_task(wakeup_.wait(None, notice_silence=True))
    await asyncio.sleep(0)
    wakeup_.set()
    assert not await waiting
    assert not await wakeup_.wait(LONG, notice_silence=True)
    wakeup_.clear()
    assert not wakeup_.is_set
    wakeup_.stop()


async def test_a_wait_ends_after_its_delay() -> None:
    """The end of a delay is not reported as a silence."""
    wakeup_ = wakeup()
    assert not await wakeup_.wait(SHORT, notice_silence=True)
    assert wakeup_.is_set
    wakeup_.stop()


async def test_a_long_silence_sets_it_once() -> None:
    """A silence during an earlier wait does not count."""
    wakeup_ = wakeup(SHORT)
    assert await wakeup_.wait(None, notice_silence=True)
    wakeup_.set()
    assert not await wakeup_.wait(None, notice_silence=False)


async def test_a_stopped_wakeup_ignores_silence() -> None:
    """It leaves no timer on the loop."""
    wakeup_ = wakeup(SHORT)
    waiting = asyncio.create_task(wakeup_.wait(None, notice_silence=True))
    await asyncio.sleep(0)
    wakeup_.stop()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiting, 0.05)
