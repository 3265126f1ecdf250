"""A process reserves file descriptors, and logs it if it has none left."""

import asyncio
import errno
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from tailrace_api.http.descriptors import open_failure, watch_descriptors

_RESERVE = """
import resource
from pathlib import Path
from tailrace_api.http.descriptors import reserve_descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
before = len(list(Path("/proc/self/fd").iterdir()))
reserve_descriptors({count})
assert len(list(Path("/proc/self/fd").iterdir())) == before
print(Path("/proc/self/status").read_text().split("FDSize:")[1].split()[0])
"""


@pytest.mark.parametrize(("count", "least"), [(300, 300), (5000, 500)])
def test_the_table_of_open_files_has_room_for_all_that_the_limit_allows(count, least):
    """Or the event loop would sleep whenever it grows."""
    run = [sys.executable, "-c", _RESERVE.format(count=count)]
    slots = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert least <= slots < 2 * least


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
