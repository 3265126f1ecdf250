"""One tenant attacks an installation while another one uses it: the long form, for a quiet machine.

``pytest tests/e2e/hostile/each_attack.py`` runs it; ``test_hostile_tenant`` is the short form.

The other tenant, in a process of its own, starts a run, approves it, hears of that on a stream and
reads lists, once a second; it probes both services twenty times a second. Tests run beside each
other, so times are compared without the time that the machine had no CPU for the processes that
worked on an operation. The times with it are recorded.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import nats
import pytest

from harness.hostile.attacker import Attacker
from harness.hostile.attacks import ATTACKS
from harness.hostile.stack import Stack
from harness.models.measurements import RecordProperty
from harness.processes.polling import until
from harness.processes.process_usage import cpu_seconds, memory_bytes
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import JOBS, LINES
from tailrace_shared.subjects import Subjects

MIB: Final = 1024 * 1024

_ATTACK_S: Final = 2.0
_QUIET_S: Final = 3.0
_SETTLED_S: Final = 30.0
# On a machine of its own, 0.1 s. Beside other tests, caches are cold and threads are stopped while
# they hold the interpreter's lock.
_PROBE_S: Final = 0.3
_REQUEST_S: Final = 1.0
_RUN_S: Final = 2.0
# What a process needs by itself, and the limits of one tenant.
_MEMORY_BYTES: Final = {"api": 300 * MIB, "worker": 400 * MIB, "nats": 400 * MIB}
_IDLE_CPU_S: Final = 0.3

Report = dict[str, dict[str, Any]]


def _limit(what: str) -> float:
    """Return how long an operation of the bystander may take, in seconds."""
    if what == "healthz of the API":
        return _PROBE_S
    return _RUN_S if what == "run" else _REQUEST_S


def _shown(report: Report) -> str:
    return ", ".join(
        f"{what} {figure['own'] * 1e3:.0f} ({figure['elapsed'] * 1e3:.0f}) ms"
        for what, figure in report.items()
    )


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


async def test_without_an_attack_everything_is_quick(
    stack: Stack, record_property: RecordProperty
) -> None:
    await stack.bystander.report()
    await asyncio.sleep(_QUIET_S)
    report = await stack.bystander.report()
    record_property("own (and measured) times", _shown(report))
    assert {what for what, figure in report.items() if figure["own"] > _limit(what)} == set()


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_of_one_tenant_does_not_delay_another(
    stack: Stack, name: str, record_property: RecordProperty
) -> None:
    """It is refused by a sentence that names the limit, and is over soon after its end."""
    attack = ATTACKS[name]
    await stack.bystander.report()
    organization = f"mallory-{name.replace(' ', '-')}"
    attacker = Attacker(organization, stack.api.port, _ATTACK_S)
    async with _peaks(stack) as peaks, attacker:
        await attack.act(attacker)
        report = await stack.bystander.report()
        ended = time.monotonic()
        await _settled(attacker)
    record_property("own (and measured) times", _shown(report))
    memory = ", ".join(f"{process} {peak / MIB:.0f} MiB" for process, peak in peaks.items())
    settled = f"settled in {time.monotonic() - ended:.1f} s"
    record_property("memory", f"{memory}; {attacker.answers} answers, {settled}")
    slow = {what: figure for what, figure in report.items() if figure["own"] > _limit(what)}
    assert not slow
    assert {each for each, peak in peaks.items() if peak > _MEMORY_BYTES[each]} == set()
    said = [*attacker.refusals, stack.api.log_text, stack.worker.log_text]
    assert any(re.search(attack.bound, text) for text in said), sorted(attacker.refusals)


async def test_afterwards_the_installation_is_idle(
    stack: Stack, record_property: RecordProperty
) -> None:
    """Its queues are empty, and what runs is the bystander alone."""
    client = await nats.connect(stack.nats.url)
    subjects = Subjects()

    async def are_empty() -> bool:
        for stream in (JOBS, LINES):
            found = await JetStream(client).api(f"STREAM.INFO.{subjects.stream(stream)}")
            # Jobs of the bystander.
            if found["state"]["messages"] > 3:
                return False
        return True

    async def is_idle() -> bool:
        before = [(cpu_seconds(pid), memory_bytes(pid)) for pid in stack.pids.values()]
        await asyncio.sleep(1)
        after = [(cpu_seconds(pid), memory_bytes(pid)) for pid in stack.pids.values()]
        used = sum(now[0] - then[0] for now, then in zip(after, before, strict=True))
        record_property("CPU in a second", round(used, 2))
        grown = max(now[1] - then[1] for now, then in zip(after, before, strict=True))
        return used < _IDLE_CPU_S and grown < MIB

    await until(are_empty, _SETTLED_S)
    stack.bystander.stop()
    await until(is_idle, _SETTLED_S)
    await client.close()
