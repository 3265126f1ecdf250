"""A process without file descriptors logs it."""

import asyncio
import errno
from pathlib import Path

import structlog

from tailrace_api.http.descriptors import open_failure, watch_descriptors


def test_a_file_can_be_opened():
    before = sorted(Path("/proc/self/fd").iterdir())
    assert open_failure() == ""
    assert sorted(Path("/proc/self/fd").iterdir()) == before


async def test_missing_descriptors_are_logged_once_a_minute(monkeypatch):
    """However often the check fails."""
    checks: asyncio.Queue[None] = asyncio.Queue()

    def refuse(*_):
        checks.put_nowait(None)
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("tailrace_api.http.descriptors.os.open", refuse)
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(watch_descriptors(0))
        for _ in range(3):
            await asyncio.wait_for(checks.get(), 10)
        task.cancel()
    (line,) = logs
    assert (line["error"], line["log_level"]) == ("Too many open files", "error")
    assert "TAILRACE_MAX_STREAMS" in line["fix"]
