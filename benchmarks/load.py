"""The load on an engine: one HTTP client for all of them, so that it costs each the same.

An engine is measured by two calls: how long one chain of steps takes alone, and how long many
take that are in flight at once.
"""

import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from benchmarks.table import Row

_LONGEST: Final = 600.0
# A slow engine gets fewer rounds, rather than a day.
_ENOUGH: Final = 20.0
_WARM_UP: Final = 5
_SYNCS: Final = 200


@dataclass(frozen=True, slots=True)
class Mode:
    """How an engine runs in one measurement.

    Attributes:
        engine: its name, and what kind of step it takes where it has several.
        sync: when it has what it acknowledges written to the disk.
        survives: what an acknowledged step survives: a power failure, or a process crash only.
        is_default: whether the engine comes like this.
    """

    engine: str
    sync: str
    survives: str
    is_default: bool

    @property
    def columns(self) -> Row:
        """Return what stands beside every figure."""
        return {"engine": self.engine, "sync": self.sync, "survives": self.survives}


class Engine(Protocol):
    """One engine, running."""

    @property
    def mode(self) -> Mode:
        """How it runs."""

    @property
    def processes(self) -> Mapping[str, list[int]]:
        """The ids of its processes, by what they are."""

    async def run(self, length: int) -> float:
        """Run one chain; return the seconds from its request to its end, seen by a client."""

    async def burst(self, executions: int, length: int) -> float:
        """Run many chains, all in flight at once; return the seconds until all have ended."""


async def post(url: str, body: Any, until: bytes | None = None) -> bytes:
    """Send a JSON body on a connection of its own; return the answer.

    Args:
        url: where to.
        body: what to send.
        until: end with the first line that contains this, rather than with the answer.

    Raises:
        RuntimeError: the answer is not one of success, or ended before ``until``.
    """
    parts, payload = urlsplit(url), json.dumps(body).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(head.encode() + payload)
        status = await reader.readline()
        if b" 20" not in status:
            raise RuntimeError(f"{url}: {status!r} {await reader.read()!r}")
        if until is None:
            return await reader.read()
        async for line in reader:
            if until in line:
                return line
        raise RuntimeError(f"{url} ended too early")
    finally:
        writer.close()


async def timed(work: Awaitable[object]) -> float:
    """Return how many seconds something takes."""
    begun = time.perf_counter()
    async with asyncio.timeout(_LONGEST):
        await work
    return time.perf_counter() - begun


async def latency(engines: Sequence[Engine], length: int, runs: int, rounds: int) -> list[Row]:
    """Measure runs one after the other, the engines in turns."""
    samples: list[list[float]] = [[] for _ in engines]
    for _ in range(rounds):
        for engine, taken in zip(engines, samples, strict=True):
            for _ in range(_WARM_UP):
                await engine.run(length)
            taken += [await engine.run(length) * 1e3 for _ in range(max(1, runs // rounds))]
    figure = f"chain of {length}, start to end"
    return [
        _row(figure, engine, "ms", taken) for engine, taken in zip(engines, samples, strict=True)
    ]


async def throughput(
    engines: Sequence[Engine], executions: int, length: int, rounds: int, workers: int
) -> tuple[list[Row], list[Row]]:
    """Measure executions in flight at once, the engines in turns.

    Returns the figures, and where their CPU time went.
    """
    taken = [_Bursts(engine) for engine in engines]
    for bursts in taken:
        await bursts.engine.burst(max(1, executions // 8), length)
    for _ in range(rounds):
        for bursts in taken:
            if sum(bursts.seconds) < _ENOUGH:
                await bursts.take(executions, length)
    figure = f"{executions} executions x {length} steps, {workers} worker process(es)"
    steps = executions * length
    rates = [
        _row(figure, bursts.engine, "steps/s", [steps / seconds for seconds in bursts.seconds])
        for bursts in taken
    ]
    return rates, [{"figure": figure, **bursts.cost(steps)} for bursts in taken]


class _Bursts:
    """The bursts of one engine, and the CPU time they took."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds: list[float] = []
        self._spent: dict[str, float] = {}
        self._machine = 0.0

    async def take(self, executions: int, length: int) -> None:
        before, machine = cpu_seconds(self.engine), _machine_seconds()
        self.seconds.append(await self.engine.burst(executions, length))
        for process, seconds in cpu_seconds(self.engine).items():
            spent = self._spent.get(process, 0.0)
            self._spent[process] = spent + seconds - before[process]
        self._machine += _machine_seconds() - machine

    def cost(self, steps: int) -> Row:
        total = steps * len(self.seconds)
        each = {name: round(spent / total * 1e6) for name, spent in self._spent.items()}
        others = self._machine - sum(self._spent.values())
        capacity = sum(self.seconds) * (os.cpu_count() or 1)
        return {
            **self.engine.mode.columns,
            "all": sum(each.values()),
            "of which": each,
            "taken by others": f"{max(0.0, 100 * others / capacity):.0f}%",
        }


def _row(figure: str, engine: Engine, unit: str, samples: list[float]) -> Row:
    best, worst = (max, min) if unit == "steps/s" else (min, max)
    return {
        "figure": figure,
        **engine.mode.columns,
        "unit": unit,
        "median": round(statistics.median(samples), 2),
        "best": round(best(samples), 2),
        "worst": round(worst(samples), 2),
    }


def cpu_seconds(engine: Engine) -> dict[str, float]:
    """Return the CPU time that each of an engine's processes has used, the client's included.

    Where there is no ``/proc``, nothing is returned.
    """
    if not Path("/proc/self/stat").exists():
        return {}
    processes = {**engine.processes, "client": [os.getpid()]}
    return {name: sum(map(_cpu_seconds, pids)) for name, pids in processes.items()}


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for process in (pid, *_children(pid)) if pid != os.getpid() else (pid,):
        # The name, in parentheses, may hold blanks.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _machine_seconds() -> float:
    """Return the CPU time that all of the machine has used; 0 where there is no ``/proc``."""
    if not Path("/proc/stat").exists():
        return 0.0
    fields = [int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]]
    user, nice, system, _idle, _wait, interrupts, soft_interrupts, stolen = fields
    return sum((user, nice, system, interrupts, soft_interrupts, stolen)) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> Iterator[int]:
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            yield child
            yield from _children(child)


def sync_microseconds() -> float:
    """Return what one fsync of a small append costs where the engines store."""
    with tempfile.TemporaryFile() as file:
        begun = time.perf_counter()
        for _ in range(_SYNCS):
            file.write(b"x" * 400)
            file.flush()
            os.fsync(file.fileno())
        return round((time.perf_counter() - begun) / _SYNCS * 1e6)
