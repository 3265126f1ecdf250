"""Whether an event loop runs its callbacks, asked from another thread."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Final

import pytest

from tailrace_worker.engine.tasks.loop_pulse import LoopPulse

_NEVER: Final = 60.0


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run an event loop in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _block(pulse: LoopPulse, begun: threading.Event, released: threading.Event) -> None:
    pulse.begin()
    begun.set()
    released.wait()


def test_a_loop_that_ran_lately_is_not_asked(loop: asyncio.AbstractEventLoop) -> None:
    """Not even if it does something that takes long just now."""
    begun, released = threading.Event(), threading.Event()
    pulse = LoopPulse(loop, lambda: 0.0)
    loop.call_soon_threadsafe(_block, pulse, begun, released)
    assert begun.wait(_NEVER)
    assert pulse.is_felt(_NEVER)
    released.set()


def test_a_loop_that_is_blocked_is_not_felt(loop: asyncio.AbstractEventLoop) -> None:
    """It is again once it answers."""
    begun, released = threading.Event(), threading.Event()
    times = iter([0.0, 5.0, 10.0])
    pulse = LoopPulse(loop, lambda: next(times, 15.0))
    loop.call_soon_threadsafe(_block, pulse, begun, released)
    assert begun.wait(_NEVER)
    assert not pulse.is_felt(0.01)
    released.set()
    assert pulse.is_felt(_NEVER)
