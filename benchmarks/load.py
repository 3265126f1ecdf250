"""The load that the benchmark puts on an engine; all engines use the same HTTP client.

There are two measurements: the latency of one chain of steps alone, and the throughput of many
concurrent chains.
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

_TIMEOUT_S: Final = 600.0
# A slow engine gets fewer rounds.
_MAX_BURSTS_S: Final = 20.0
_WARM_UP: Final = 5
_SYNCS: Final = 200


@dataclass(frozen=True, slots=True)
class Mode:
    """The configuration of an engine in one measurement.

    Attributes:
        engine: its name, with the kind of step if it has several.
        sync: when it syncs acknowledged steps to disk.
        survives: ``power failure`` or ``process crash``: what an acknowledged step survives.
        is_default: whether this is the engine's default.
    """

    engine: str
    sync: str
    survives: str
    is_default: bool

    @property
    def columns(self) -> Row:
        """The columns that describe the engine in every table."""
        return {"engine": self.engine, "sync": self.sync, "survives": self.survives}


class Engine(Protocol):
    """A running engine."""

    @property
    def mode(self) -> Mode:
        """Its configuration."""

    @property
    def processes(self) -> Mapping[str, list[int]]:
        """The ids of its processes, by role."""

    async def run(self, length: int) -> float:
        """Run one chain; return the seconds from its request to its end, as a client sees it."""

    async def burst(self, executions: int, length: int) -> float:
        """Run many chains concurrently; return the seconds until all have ended."""


async def post(url: str, body: Any, until: bytes | None = None) -> bytes:
    """Send a JSON body on a new connection; return the response body.

    Args:
        body: the JSON value to send.
        until: return the first line that contains this, instead of the whole body.

    Raises:
        RuntimeError: the status is not 2xx, or the body ended before ``until``.
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
        raise RuntimeError(f"{url}: the response ended before {until!r}")
    finally:
        writer.close()


async def timed(work: Awaitable[object]) -> float:
    """Return the duration of some work, in seconds."""
    begun = time.perf_counter()
    async with asyncio.timeout(_TIMEOUT_S):
        await work
    return time.perf_counter() - begun


async def latency(engines: Sequence[Engine], length: int, runs: int, rounds: int) -> list[Row]:
    """Measure single runs in sequence, the engines in turns."""
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
    """Measure concurrent executions, the engines in turns.

    Returns the rates, and the CPU time of each process.
    """
    taken = [_Bursts(engine) for engine in engines]
    for bursts in taken:
        await bursts.engine.burst(max(1, executions // 8), length)
    for _ in range(rounds):
        for bursts in taken:
            if sum(bursts.seconds) < _MAX_BURSTS_S:
                await bursts.take(executions, length)
    figure = f"{executions} executions x {length} steps, {workers} worker process(es)"
    steps = executions * length
    rates = [
        _row(figure, bursts.engine, "steps/s", [steps / seconds for seconds in bursts.seconds])
        for bursts in taken
    ]
    return rates, [{"figure": figure, **bursts.cost(steps)} for bursts in taken]


class _Bursts:
    """The bursts of one engine and their CPU time."""

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
            "used by others": f"{max(0.0, 100 * others / capacity):.0f}%",
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
    """Return the CPU time of each process of an engine and of the client.

    Without ``/proc`` the result is empty.
    """
    if not Path("/proc/self/stat").exists():
        return {}
    processes = {**engine.processes, "client": [os.getpid()]}
    return {name: sum(map(_cpu_seconds, pids)) for name, pids in processes.items()}


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for process in (pid, *_children(pid)) if pid != os.getpid() else (pid,):
        # The process name, in parentheses, may contain blanks.
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _machine_seconds() -> float:
    """Return the CPU time that the whole machine has used; 0 without ``/proc``."""
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
    """Return the duration of one fsync after a small append, on the disk that engines use."""
    with tempfile.TemporaryFile() as file:
        begun = time.perf_counter()
        for _ in range(_SYNCS):
            file.write(b"x" * 400)
            file.flush()
            os.fsync(file.fileno())
        return round((time.perf_counter() - begun) / _SYNCS * 1e6)
