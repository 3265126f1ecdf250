"""A drive, before it has anything to do with NATS."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.counts import EngineCounts
from tailrace_worker.engine.drive.driver import Drive
from tailrace_worker.engine.drive.wait_effects import WaitEffects
from tailrace_worker.engine.run.output_budget import UNLIMITED


def _ignore() -> None:
    pass


async def _alive_after_last_reference() -> list[object]:
    """Return the drive and wait effects that are alive after their last reference is dropped."""
    services: Any = SimpleNamespace(
        jetstream=None,
        stores=SimpleNamespace(log=None, waiting=None),
        subjects=Subjects("t"),
        counts=EngineCounts(),
        worker_id="w",
        loop=asyncio.get_running_loop(),
        output_budget=UNLIMITED,
    )
    drive = weakref.ref(Drive(services, "tenant", "execution"))
    effects = weakref.ref(WaitEffects(services, "tenant", "execution", _ignore))
    return [alive for alive in (drive(), effects()) if alive is not None]


def test_a_drive_is_freed_without_the_garbage_collector():
    """A drive holds all outputs of its execution, and the collector of a worker runs seldom."""
    gc.disable()
    try:
        assert asyncio.run(_alive_after_last_reference()) == []
    finally:
        gc.enable()
