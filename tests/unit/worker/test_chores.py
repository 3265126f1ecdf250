"""Chores: done until they are done, and heard of when they cannot be."""

import asyncio

import pytest

from tailrace_shared.errors import NewerLogError, UnavailableError
from tailrace_worker.engine.tasks import retry
from tailrace_worker.engine.tasks.background_tasks import BackgroundTasks


@pytest.fixture
def chores(monkeypatch: pytest.MonkeyPatch) -> BackgroundTasks:
    """Chores that do not wait long for NATS."""
    monkeypatch.setattr(retry, "_PAUSE", 0.0)
    return BackgroundTasks(lambda: None, execution="e")


async def test_a_chore_is_done_again_while_nats_is_away(chores: BackgroundTasks) -> None:
    """And whoever waits for all of them waits for that."""
    tries: list[int] = []

    async def chore() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise UnavailableError("away")

    chores.do(chore)
    assert len(chores) == 1
    await chores.all_done()
    assert len(tries) == 3
    assert not chores
    chores.check()


async def test_what_a_chore_fails_with_is_raised_where_it_can_be_dealt_with(
    chores: BackgroundTasks,
) -> None:
    """Once: the drive that follows does everything again."""

    async def chore() -> None:
        raise NewerLogError("written by a newer version")

    chores.do(chore)
    await chores.all_done()
    with pytest.raises(NewerLogError):
        chores.check()
    chores.check()


async def test_closed_chores_are_let_go(chores: BackgroundTasks) -> None:
    """Their execution is driven by somebody else."""
    begun = asyncio.Event()

    async def chore() -> None:
        begun.set()
        await asyncio.Event().wait()

    chores.do(chore)
    await begun.wait()
    chores.close()
    await chores.all_done()
    chores.check()
