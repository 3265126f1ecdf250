"""A drive looks at the log whenever it is asked to, and believes no replica that lags."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from harness.generators.workflows import definition
from harness.models.log_conditions import begun
from harness.processes.installation import TENANT, Installation
from tailrace_shared.execution.events import ExecutionCompleted, StepWaiting
from tailrace_shared.execution.state import fold
from tailrace_shared.process.settings_reader import read_settings
from tailrace_shared.settings import WorkerSettings
from tailrace_shared.stores.log_records import History
from tailrace_worker.engine.drive import driver
from tailrace_worker.engine.engine import Engine
from tailrace_worker.nodes.registry import load_registry
from tailrace_worker.secrets.secret_store import SecretStore


@pytest.fixture
async def engine(site: Installation, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    """An engine in this process, whose drives hear of commits as soon as they begin to wait."""
    monkeypatch.setattr(driver, "_SUBSCRIBE_AFTER_S", 0.05)
    settings = read_settings(WorkerSettings, {**site.environment, "TAILRACE_CANCEL_GRACE": "100ms"})
    started = Engine(settings, load_registry(""), SecretStore())
    await asyncio.to_thread(started.start)
    yield started
    started.drain()
    await asyncio.to_thread(started.stop)


async def test_a_request_that_comes_while_the_log_is_read_is_not_lost(
    site: Installation, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation that comes between the reading of a pause and the next wait is applied."""
    services, reading, go_on = engine.services, asyncio.Event(), asyncio.Event()
    here, fetch = asyncio.get_running_loop(), services.stores.outputs.fetch

    async def slow_fetch(*args: Any) -> None:
        here.call_soon_threadsafe(reading.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go_on.wait(), here))
        await fetch(*args)

    execution = await site.begin({"a": {"with": {"duration": "1h"}}})
    driving = asyncio.create_task(asyncio.to_thread(engine.advance, TENANT, execution))
    await site.until(execution, begun("a"))
    drive = engine._drives.get(TENANT, execution)
    assert drive is not None
    while drive._subscription is None:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    monkeypatch.setattr(services.stores.outputs, "fetch", slow_fetch)
    await site.commander.pause(TENANT, execution)
    await reading.wait()
    await site.commander.cancel(TENANT, execution)
    # The drive hears of it on a connection of its own.
    while not drive.read_requested:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    go_on.set()
    await site.finished(execution)
    await driving


async def test_a_child_run_whose_end_a_replica_does_not_have_yet_has_not_failed(
    site: Installation, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream's leader has reported the end; another replica may answer a Direct Get."""
    await site.store(definition({"a": {"type": "log", "with": {"message": "hello"}}}, id="child"))
    parent = await site.begin({"c": {"type": "workflow", "with": {"id": "child"}}})
    await asyncio.to_thread(engine.advance, TENANT, parent)
    (wait,) = [each for each in await site.events(parent) if isinstance(each, StepWaiting)]
    child = wait.data.child_execution_id or ""
    await asyncio.to_thread(engine.advance, TENANT, child)
    log, (first, *_rest) = engine.services.stores.log, await site.commits(child)
    load, lags = log._load, [True]

    async def lagging(tenant: str, execution: str) -> History:
        if execution == child and lags:
            lags.clear()
            return History(fold(first.events()), first.sequence, "")
        return await load(tenant, execution)

    monkeypatch.setattr(log, "_load", lagging)
    await asyncio.to_thread(engine.advance, TENANT, parent)
    events = await site.events(parent)
    assert isinstance(events[-1], ExecutionCompleted)


async def test_an_execution_that_breaks_its_drives_leaves_nothing_behind(
    site: Installation, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is failed, then cleaned up like any other: it is in no index of waits."""

    async def break_(*_: Any) -> None:
        raise RuntimeError("broken")

    execution = await site.begin({"a": {"type": "await"}})
    await asyncio.to_thread(engine.advance, TENANT, execution)
    await site.waits(execution, ["a"])
    monkeypatch.setattr(engine.services.stores.outputs, "fetch", break_)
    for _ in range(4):
        with pytest.raises(RuntimeError):
            await asyncio.to_thread(engine.advance, TENANT, execution)
    await asyncio.to_thread(engine.advance, TENANT, execution)
    assert (await site.log.load_newest(TENANT, execution)).state.status == "failed"
    assert not await site.waiting.of_execution(TENANT, execution)
