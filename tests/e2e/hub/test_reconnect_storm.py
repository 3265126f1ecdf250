"""Five thousand clients that come back at once, with ids from long ago."""

import asyncio
import time
from pathlib import Path

import pytest

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog, event_ids
from harness.models.measurements import RecordProperty
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.process_usage import cpu_seconds, file_slots, memory_bytes
from harness.sse.crowd import Crowd
from harness.sse.crowd_members import Target

_CLIENTS = 5000
_EXECUTIONS = 20
_COMMITS = 50
_OLDEST = 10
_MIB = 2**20
# For so long an answer is handed on, in seconds.
_FRESH = 3.0
# A generous allowance for the reads of a new topic and all other reads.
_ASKED_OF_A_TOPIC = 10

# A busy machine takes minutes for thousands of clients.
pytestmark = pytest.mark.timeout(400)


async def _history(log: HandWrittenLog) -> None:
    await log.begin()
    await log.commit(written.step_started("n"))
    for number in range(_COMMITS):
        await log.commit(written.step_progress("n", number), written.step_log("n", "x" * 200))


async def test_all_are_caught_up_within_bounds(
    nats_server: NatsServer,
    log: HandWrittenLog,
    tmp_path: Path,
    record_property: RecordProperty,
) -> None:
    """Twenty executions, five ids each: a client gets just what it had not, and goes on live."""
    # More than a ring holds, so that all of it is read from the log.
    with ApiProcess(nats_server.url, tmp_path, ring_events="16", ring_bytes="65536") as api:
        assert file_slots(api.pid) >= _CLIENTS
        logs = [HandWrittenLog(log.client) for _ in range(_EXECUTIONS)]
        await asyncio.gather(*map(_history, logs))
        histories = [await event_ids(one) for one in logs]
        starts = [_OLDEST + step for step in range(0, 2 * _COMMITS, 2 * _COMMITS // 5)]
        targets = [
            Target.execution(api.port, one.execution, ids[start])
            for one, ids in zip(logs, histories, strict=True)
            for start in starts
        ]
        pids = {"API": api.pid, "NATS": nats_server.pid}
        memory = {name: memory_bytes(pid) for name, pid in pids.items()}
        cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        messages, began = nats_server.figures()["in_msgs"], time.monotonic()
        async with Crowd() as crowd:
            connected = await crowd.connect(_CLIENTS, *targets, at_once=_CLIENTS)
            caught_up = connected + await crowd.reached(*(ids[-1] for ids in histories))
            memory = {name: memory_bytes(pid) - memory[name] for name, pid in pids.items()}
            cpu = {name: cpu_seconds(pid) - cpu[name] for name, pid in pids.items()}
            messages = nats_server.figures()["in_msgs"] - messages
            took = time.monotonic() - began
            for one in logs:
                await one.complete()
            await crowd.finished()
            histories = [await event_ids(one) for one in logs]
            report = await crowd.report()
    record_property("seconds until all had a response", round(connected, 2))
    record_property("seconds until all were caught up", round(caught_up, 2))
    record_property("messages to NATS", messages)
    for name in pids:
        record_property(f"memory of {name}, MiB more", memory[name] // _MIB)
        record_property(f"CPU of {name}, seconds", round(cpu[name], 2))
    assert {tuple(ids): count for count, ids in report.histories} == {
        tuple(ids[start + 1 :]): _CLIENTS // len(targets) for ids in histories for start in starts
    }
    assert report.statuses == {200: _CLIENTS, 204: _CLIENTS}
    assert report.resets == 0
    # Clients that ask for the same share a read: what an id names, and a page from there on, are
    # asked once while an answer is fresh, however many clients and however slow the machine.
    windows = took / _FRESH + 1
    assert messages < 2 * len(targets) * windows + _EXECUTIONS * _ASKED_OF_A_TOPIC
    assert memory["API"] < _CLIENTS * 48 * 1024
    assert memory["NATS"] < 256 * _MIB
