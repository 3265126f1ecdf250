"""Profile a worker process with py-spy, by area and by function.

Only threads that hold the interpreter lock are sampled: together they are the one core that a
worker process can use. A function's own time includes the C code that it calls (a decoder, or
``send`` of a socket). Samples count wall-clock moments, not CPU time: on a busy machine a worker is
preempted most often in the write that wakes the server, which then seems expensive.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.peers import installed
from benchmarks.table import Row

_SAMPLES_PER_S: Final = 250
_SHOWN: Final = 30
# The first key that a frame's path contains gives its area.
_AREAS: Final = {
    "tailrace_shared/execution/events": "encode and decode",
    "tailrace_shared/execution/commits": "encode and decode",
    "tailrace_shared/execution/evaluation": "expressions",
    "tailrace_shared/workflow": "expressions",
    "tailrace_shared/execution": "scheduler and fold",
    "tailrace_worker/engine/decide": "scheduler and fold",
    "tailrace_shared/ids": "ids",
    "secrets.py": "ids",
    "random.py": "ids",
    "tailrace_shared": "JetStream requests",
    "tailrace_worker/broker": "jobs: Dramatiq and its broker",
    "dramatiq/": "jobs: Dramatiq and its broker",
    "tailrace_worker/engine": "drives: driver, attempts, runner",
    "tailrace_worker/nodes": "nodes",
    "benchmarks/nodes": "nodes",
    "nats/": "nats-py",
    "email/": "nats-py",
    "asyncio/": "asyncio and threads",
    "uvloop": "asyncio and threads",
    "threading.py": "asyncio and threads",
    "concurrent/": "asyncio and threads",
    "queue.py": "asyncio and threads",
    "contextlib.py": "asyncio and threads",
}


def can_profile() -> bool:
    """Return whether the profiler is installed."""
    return installed("py-spy") is not None


async def record(pid: int, seconds: int, folder: Path) -> list[str]:
    """Sample a process; return its stacks, each with the number of its samples.

    Raises:
        RuntimeError: the profiler may not attach to the process.
    """
    stacks = folder / "stacks.txt"
    what = [
        "--pid",
        str(pid),
        "--duration",
        str(seconds),
        "--rate",
        str(_SAMPLES_PER_S),
        "--gil",
        "--nonblocking",
    ]
    how = ["--format", "raw", "--function", "--threads", "--full-filenames"]
    process = await asyncio.create_subprocess_exec(
        *(str(installed("py-spy")), "record", *what, *how, "--output", str(stacks)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"py-spy: {errors.decode().strip()}")
    return stacks.read_text().splitlines()


def summarize(stacks: list[str], cost: float) -> dict[str, list[Row]]:
    """Return the shares of the samples by thread, by area, and by function.

    Args:
        stacks: lines of frames joined by ``;``, outermost first, and a count.
        cost: the CPU time of a step without the profiler, in microseconds.
    """
    threads: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    functions: Counter[tuple[str, str]] = Counter()
    for line in stacks:
        text, _, count = line.rpartition(" ")
        thread, *frames = text.split(";")
        leaf = frames[-1] if frames else "uvloop, outside any function"
        seen = int(count)
        threads[_thread(thread)] += seen
        areas[area(leaf)] += seen
        functions[area(leaf), _short(leaf)] += seen
    total = max(1, threads.total())

    def row(seen: int) -> Row:
        return {"%": round(100 * seen / total, 1), "us/step": round(cost * seen / total, 1)}

    return {
        "threads": [{"thread": name, **row(seen)} for name, seen in threads.most_common()],
        "areas": [{"area": name, **row(seen)} for name, seen in areas.most_common()],
        "functions": [
            {"own time of": function, "area": name, **row(seen)}
            for (name, function), seen in functions.most_common(_SHOWN)
        ],
    }


def area(frame: str) -> str:
    """Return the area of a frame, ``function (path:line)``."""
    return next((name for part, name in _AREAS.items() if part in frame), "other")


def _short(frame: str) -> str:
    function, _, path = frame.partition(" (")
    return f"{function} {Path(*Path(path.rstrip(')')).parts[-2:])}"


def _thread(frame: str) -> str:
    # Dramatiq numbers its threads: ``thread (0x7f…): WorkerThread-3``.
    name = frame.partition("): ")[2] or frame
    return name.rstrip("0123456789-_ ")
