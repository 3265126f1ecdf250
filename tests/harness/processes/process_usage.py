"""What a process costs: CPU and memory, as Linux tells it."""

import re
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, its own and what the kernel did for it.

    The scheduler's count, in nanoseconds, of which user and system time are made; those two are
    told in steps of 10 ms, which is more than some measurements take.
    """
    nanoseconds = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process, but for files.

    What it has mapped of those changes with what other processes do.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    own = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
    return sum(map(int, own)) * 1024
