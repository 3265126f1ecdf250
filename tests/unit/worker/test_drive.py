"""The drive of an execution, before it has anything to do with NATS."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

from tailrace_shared.subjects import Subjects
from tailrace_worker.engine.drive.driver import Drive
from tailrace_worker.engine.drive.wait_effects import WaitEffects


def nothing() -> None:
    """Be called."""


async def left_behind() -> list[object]:
    """Return what is left of a drive and its consequences when nobody has them any more."""
    loop = asyncio.get_running_loop()
    services: Any = SimpleNamespace(
        jetstream=None, log=None, subjects=Subjects("t"), worker_id="w", loop=loop
    )
    drive = weakref.ref(Drive(services, "tenant", "execution"))
    wait_effects = weakref.ref(WaitEffects(services, "tenant", "execution", nothing))
    return [left for left in (drive(), wait_effects()) if left is not None]


def test_a_drive_that_is_over_is_gone_at_once():
    """Not when garbage is looked for, which is seldom: it has all outputs of the execution."""
    gc.disable()
    try:
        assert asyncio.run(left_behind()) == []
    finally:
        gc.enable()
