"""Requests that a client waits for end within the time limit, also if any part of them hangs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tailrace_api.routes.schedules import ScheduleRoutes
from tailrace_shared.commands import time_limit
from tailrace_shared.commands.execution_commands import Decision, ExecutionCommands
from tailrace_shared.commands.run_starter import RunRequest, RunStarter
from tailrace_shared.commands.signals import Signals
from tailrace_shared.errors import UnavailableError
from tailrace_shared.process.fair_threads import FairThreads
from tailrace_shared.settings import ApiSettings


class _SilentStore:
    """A store that never answers."""

    def __getattr__(self, _name: str) -> Callable[..., Awaitable[Any]]:
        async def hang(*_args: Any, **_options: Any) -> None:
            await asyncio.Event().wait()

        return hang


class _SilentStores:
    def __getattr__(self, _name: str) -> _SilentStore:
        return _SilentStore()


_STORES: Any = _SilentStores()
_STORE: Any = _SilentStore()
_COMMANDS = ExecutionCommands(_STORES, _STORE, FairThreads())
_STARTER = RunStarter(_STORES, _STORE, FairThreads())
_SIGNALS = Signals(_STORES, _STORE, _STORE)
_SCHEDULES = ScheduleRoutes(ApiSettings(), _STORE, _STORE, _STARTER)
_SCHEDULE = {"workflow_id": "flow", "cron": "@hourly"}


@pytest.mark.parametrize(
    "request_",
    [
        lambda: _STARTER.start(RunRequest("t", "flow", "input", {}, {}, None)),
        lambda: _STARTER.rerun("t", "e", None, None),
        lambda: _COMMANDS.cancel("t", "e"),
        lambda: _COMMANDS.pause("t", "e"),
        lambda: _COMMANDS.resume("t", "e"),
        lambda: _COMMANDS.resolve("t", "e", Decision()),
        lambda: _SIGNALS.send("t", "paid", {}),
        lambda: _SIGNALS.emit("t", "paid", {}),
        lambda: _SCHEDULES._store("t", _SCHEDULE),
    ],
    ids=["start", "rerun", "cancel", "pause", "resume", "resolve", "send", "emit", "schedule"],
)
async def test_a_request_that_hangs_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, request_: Callable[[], Awaitable[Any]]
) -> None:
    monkeypatch.setattr(time_limit, "LIMIT_S", 0.01)
    with pytest.raises(UnavailableError, match="repeat the request"):
        async with asyncio.timeout(5):
            await request_()
