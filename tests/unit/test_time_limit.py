"""The time limit of a test."""

import asyncio
import signal
from collections.abc import Iterator

import pytest

from harness.time_limit import end_waiting_tests


@pytest.fixture
def _limit() -> Iterator[None]:
    """Restore the handler and the timer that limit this test."""
    handler, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)

    def raise_in_a_task(_number: int, _frame: object) -> None:
        raise AssertionError

    signal.signal(signal.SIGALRM, raise_in_a_task)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *left)


@pytest.mark.usefixtures("_limit")
def test_a_test_that_waits_is_ended_while_another_task_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An exception in that task would be lost. The report says where each task waits."""
    end_waiting_tests()

    async def other_task() -> None:
        signal.raise_signal(signal.SIGALRM)

    async def waits_for_ever() -> None:
        running = asyncio.create_task(other_task())
        await asyncio.Event().wait()
        await running

    with pytest.raises(RuntimeError, match="stopped"):
        asyncio.run(waits_for_ever())
    assert "await asyncio.Event().wait()" in capsys.readouterr().err
