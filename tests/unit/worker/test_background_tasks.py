"""Chores: done until they are done, and heard of when they cannot be."""

import asyncio

import pytest

from tailrace_shared.errors import NewerLogError, UnavailableError
from tailrace_worker.engine.tasks import retry
from tailrace_worker.engine.tasks.background_tasks import BackgroundTasks


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> BackgroundTasks:
    """Chores that do not wait long for NATS."""
    monkeypatch.setattr(retry, "_PAUSE_S", 0.0)
    return BackgroundTasks(lambda: None, execution="e")


async def test_a_chore_is_done_again_while_nats_is_away(tasks: BackgroundTasks) -> None:
    """And ``join`` waits for the repetition."""
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


async def test_what_a_chore_fails_with_is_raised_where_it_can_be_dealt_with(
    tasks: BackgroundTasks,
) -> None:
    """Once: the drive that follows does everything again."""

    async def work() -> None:
        raise NewerLogError("written by a newer version")

    tasks.start(work)
    await tasks.join()
    with pytest.raises(NewerLogError):
        tasks.raise_failure()
    tasks.raise_failure()


async def test_closed_chores_are_let_go(tasks: BackgroundTasks) -> None:
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
