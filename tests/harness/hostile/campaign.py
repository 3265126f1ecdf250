"""Carry out one attack beside the bystander."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from harness.hostile.attacker import Attacker
from harness.hostile.attacks import ATTACKS
from harness.hostile.measurement import Report
from harness.hostile.stack import Stack
from harness.processes.polling import until
from harness.processes.process_usage import memory_bytes

PROBES: Final = ("healthz of the API", "healthz of the worker")
_MIB: Final = 1024 * 1024
_PROBE_S: Final = 0.1
_REQUEST_S: Final = 1.0
_RUN_S: Final = 2.0
_SETTLED_S: Final = 240.0
# What a process needs by itself, and the limits of one tenant.
MEMORY_BYTES: Final = {"api": 300 * _MIB, "worker": 300 * _MIB, "nats": 400 * _MIB}
# CPU time of ``_calibrate`` on the machine for which the limits hold, in seconds.
_REFERENCE_S: Final = 0.05


def limit_of(what: str) -> float:
    """Return how long an operation of the bystander may take, in seconds."""
    if what in PROBES:
        return _PROBE_S
    return _RUN_S if what == "run" else _REQUEST_S


def slowness() -> float:
    """Return how many times slower than the reference this machine's processors are, at least 1."""
    return max(1.0, min(_calibrate() for _ in range(5)) / _REFERENCE_S)


def _calibrate() -> float:
    """Return the CPU time of some work, in seconds."""
    document = {"values": [{"n": number, "text": "x" * 50} for number in range(1000)]}
    began = time.thread_time()
    for _ in range(20):
        json.loads(json.dumps(document))
    return time.thread_time() - began


class Outcome(NamedTuple):
    """The outcome of an attack.

    Attributes:
        report: what the bystander measured meanwhile.
        peaks: the largest memory of each process, in bytes.
        is_bounded: whether it was refused by the sentence that the attack names.
        refusals: how it was refused.
    """

    report: Report
    peaks: dict[str, int]
    is_bounded: bool
    refusals: list[str]

    def __str__(self) -> str:
        figures = ", ".join(
            f"{what} {each.elapsed * 1e3:.0f}/{each.own * 1e3:.0f}/{each.work * 1e3:.0f} ms"
            for what, each in self.report.items()
        )
        memory = ", ".join(f"{each} {peak / _MIB:.0f} MiB" for each, peak in self.peaks.items())
        return f"elapsed/own/work: {figures}; {memory}"


async def carry_out(stack: Stack, name: str, seconds: float) -> Outcome:
    """Carry out an attack; return once the attacker has no run that could go on.

    Args:
        stack: the installation.
        name: of the attack.
        seconds: how long it lasts, after its preparation.
    """
    attack = ATTACKS[name]
    await stack.bystander.report()
    attacker = Attacker(f"mallory-{name.replace(' ', '-')}", stack.api.port, seconds)
    async with _peaks(stack) as peaks, attacker:
        await attack.act(attacker)
        report = await stack.bystander.report()
        await _settled(attacker)
    said = [*attacker.refusals, stack.api.log_text, stack.worker.log_text]
    is_bounded = any(re.search(attack.bound, text) for text in said)
    return Outcome(report, peaks, is_bounded, sorted(attacker.refusals))


@asynccontextmanager
async def _peaks(stack: Stack) -> AsyncIterator[dict[str, int]]:
    """Yield the largest memory of each process during the block, in bytes."""
    peaks = dict.fromkeys(stack.pids, 0)

    async def watch() -> None:
        while True:
            for name, pid in stack.pids.items():
                peaks[name] = max(peaks[name], memory_bytes(pid))
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    try:
        yield peaks
    finally:
        watching.cancel()


async def _settled(attacker: Attacker) -> None:
    """Wait until no run of the attacker is queued or running."""

    async def is_idle() -> bool:
        for status in ("queued", "running"):
            path = f"/api/v1/executions?limit=1&status={status}"
            if (await attacker.ask("GET", path)).json()["runs"]:
                return False
        return True

    await until(is_idle, _SETTLED_S)
