"""One tenant attacks an installation while another one uses it.

The other tenant, in a process of its own, starts a run, approves it, hears of that on a stream and
reads lists, once a second; it probes both services twenty times a second. Tests run beside each
other, so no test here judges by the clock: what counts is the CPU time that a process of the
installation used during an operation, or the time of the operation without that for which threads
were ready to run and had no processor, whichever is shorter.
``python -m harness.hostile`` measures the same by the clock, on a machine of its own.
"""

import asyncio
from typing import Final

import nats
import pytest

from harness.hostile.attacks import ATTACKS
from harness.hostile.campaign import MEMORY_BYTES, carry_out, limit_of, slowness
from harness.hostile.measurement import Report
from harness.hostile.stack import Stack
from harness.models.measurements import RecordProperty
from harness.processes.polling import until
from harness.processes.process_usage import cpu_seconds, memory_bytes
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import JOBS, LINES
from tailrace_shared.subjects import Subjects

pytestmark = pytest.mark.timeout(400)

_ATTACK_S: Final = 1.0
# Beside other tests caches are cold, and threads stop while they hold the interpreter's lock.
_BESIDE_OTHERS: Final = 3.0
_SETTLED_S: Final = 120.0
_IDLE_CPU_S: Final = 0.3
_MIB: Final = 1024 * 1024


def _too_slow(report: Report) -> dict[str, float]:
    """Return what exceeded its limit, in seconds on the reference machine."""
    factor = _BESIDE_OTHERS * slowness()
    # Neither counts what the bystander itself waited for a processor.
    works = {what: min(each.work, each.own) / factor for what, each in report.items()}
    return {what: work for what, work in works.items() if work > limit_of(what)}


async def test_without_an_attack_everything_is_quick(stack: Stack) -> None:
    await stack.bystander.report()
    report = await stack.bystander.report()
    assert _too_slow(report) == {}


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_of_one_tenant_does_not_delay_another(
    stack: Stack, name: str, record_property: RecordProperty
) -> None:
    """It is refused by a sentence that names the limit, and is over soon after its end."""
    outcome = await carry_out(stack, name, _ATTACK_S)
    record_property("measured", str(outcome))
    assert _too_slow(outcome.report) == {}, outcome
    assert {each for each, peak in outcome.peaks.items() if peak > MEMORY_BYTES[each]} == set()
    assert outcome.is_bounded, outcome.refusals


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
        await asyncio.sleep(1)  # what is measured: the CPU of a second
        after = [(cpu_seconds(pid), memory_bytes(pid)) for pid in stack.pids.values()]
        used = sum(now[0] - then[0] for now, then in zip(after, before, strict=True))
        record_property("CPU in a second", round(used, 2))
        grown = max(now[1] - then[1] for now, then in zip(after, before, strict=True))
        return used < _IDLE_CPU_S * slowness() and grown < _MIB

    await until(are_empty, _SETTLED_S)
    stack.bystander.stop()
    await until(is_idle, _SETTLED_S)
    await client.close()
