"""The CPU time and memory of a process, from ``/proc``."""

import re
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the user and system CPU time of a process, in seconds.

    It reads the scheduler's count in nanoseconds: user and system time have a resolution of 10 ms,
    which is longer than some measurements.
    """
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def cpu_wait_seconds(pid: int) -> dict[str, float]:
    """Return how long each thread of a process was ready to run but had no CPU, in seconds."""
    waits = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            waits[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waits


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process without mapped files.

    Mapped files are left out because other processes influence them.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    own = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(map(int, own)) * 1024


def file_slots(pid: int) -> int:
    """Return for how many open files the kernel has room without growing a table."""
    status = Path(f"/proc/{pid}/status").read_text()
    (size,) = re.findall(r"^FDSize:\s+(\d+)", status, re.MULTILINE)
    return int(size)
