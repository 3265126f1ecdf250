"""Where a worker process spends its time: py-spy's samples, by area and by function.

Only what holds the interpreter's lock is sampled: that is the one core that a worker process can
use. A function's own time includes the C code that it calls (a decoder, a socket's ``send``).
A sample is a moment, not CPU time: on a busy machine a worker is interrupted most in the write that
wakes the server, which then seems dear.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final

from benchmarks.peers import installed
from benchmarks.table import Row

_RATE: Final = 250
_SHOWN: Final = 30
# The first that a frame's path contains names its area.
_AREAS: Final = {
    "tailrace_shared/execution/events": "encode and decode",
    "tailrace_shared/execution/evaluation": "expressions",
    "tailrace_shared/workflow": "expressions",
    "tailrace_shared/execution": "scheduler and fold",
    "engine/scheduler": "scheduler and fold",
    "engine/plan": "scheduler and fold",
    "engine/retry_policy": "scheduler and fold",
    "tailrace_shared/ids": "ids",
    "secrets.py": "ids",
    "random.py": "ids",
    "tailrace_shared": "JetStream requests",
    "tailrace_worker/broker": "jobs: Dramatiq and its broker",
    "dramatiq/": "jobs: Dramatiq and its broker",
    "tailrace_worker/engine": "drives: orchestrator, attempts, runner",
    "tailrace_worker/nodes": "nodes",
    "bench/nodes": "nodes",
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
    """Tell whether the profiler is installed."""
    return installed("py-spy") is not None


async def record(pid: int, seconds: int, folder: Path) -> list[str]:
    """Sample a process for some seconds; return its stacks, each with how often it was seen.

    Raises:
        RuntimeError: the profiler may not look into the process.
    """
    stacks = folder / "stacks.txt"
    what = [
        "--pid",
        str(pid),
        "--duration",
        str(seconds),
        "--rate",
        str(_RATE),
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
    """Return shares of the samples by thread, by area, and by function.

    Args:
        stacks: lines of frames joined by ``;``, outermost first, and a count.
        cost: the CPU time that a step costs the process without the profiler, in microseconds.
    """
    threads: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    functions: Counter[tuple[str, str]] = Counter()
    for line in stacks:
        text, _, count = line.rpartition(" ")
        thread, *frames = text.split(";")
        leaf = frames[-1] if frames else "uvloop, outside of any function"
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
    """Return what a frame, ``function (path:line)``, belongs to."""
    return next((name for part, name in _AREAS.items() if part in frame), "other")


def _short(frame: str) -> str:
    function, _, path = frame.partition(" (")
    return f"{function} {Path(*Path(path.rstrip(')')).parts[-2:])}"


def _thread(frame: str) -> str:
    # Dramatiq numbers its threads: ``thread (0x7f…): WorkerThread-3``.
    name = frame.partition("): ")[2] or frame
    return name.rstrip("0123456789-_ ")
