"""Background tasks of a drive: retried, given up, closed."""

import asyncio

import pytest

from tailrace_shared.errors import JetStreamError, NewerLogError, UnavailableError
from tailrace_worker.engine.tasks import background_tasks, retry
from tailrace_worker.engine.tasks.background_tasks import BackgroundTasks


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> BackgroundTasks:
    """Tasks that retry without pauses."""
    monkeypatch.setattr(retry, "_PAUSE_S", 0.0)
    monkeypatch.setattr(background_tasks, "_FIRST_PAUSE_S", 0.0)
    return BackgroundTasks(lambda: None, execution="e")


async def test_a_task_is_repeated_while_nats_is_away(tasks: BackgroundTasks) -> None:
    """``join`` waits for the repetition."""
    tries: list[int] = []

    async def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise UnavailableError("away")

    tasks.start(work)
    assert len(tasks) == 1
    await tasks.join()
    assert len(tries) == 3
    assert not tasks
    tasks.raise_failure()


async def test_an_error_is_retried_before_it_is_raised(tasks: BackgroundTasks) -> None:
    """A refusal by JetStream may be over in a moment."""
    tries: list[int] = []

    async def work() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise JetStreamError(10074, "refused")

    tasks.start(work)
    await tasks.join()
    assert len(tries) == 3
    tasks.raise_failure()


async def test_work_that_always_fails_is_given_up_and_its_error_raised_once(
    tasks: BackgroundTasks,
) -> None:
    """The drive that follows starts all work again."""

    async def work() -> None:
        raise NewerLogError("written by a newer version")

    tasks.start(work)
    await tasks.join()
    with pytest.raises(NewerLogError):
        tasks.raise_failure()
    tasks.raise_failure()


async def test_closing_cancels_tasks(tasks: BackgroundTasks) -> None:
    """Another worker drives their execution."""
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    tasks.start(work)
    await begun.wait()
    tasks.close()
    await tasks.join()
    tasks.raise_failure()
