"""The stop of a worker by a signal."""

import os
import signal
from pathlib import Path

from harness.processes.installation import Installation


def thread_of(pid: int) -> int:
    """Return a thread of a process other than the main one, which has the process's id."""
    _main, another, *_ = sorted(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    return another


async def test_a_worker_ends_whichever_of_its_threads_is_given_the_signal(site: Installation):
    """One that has just been thawed by SIGCONT may not have its main thread awake yet."""
    worker = site.worker()
    os.kill(thread_of(worker.pid), signal.SIGTERM)
    assert worker.wait() == 0
