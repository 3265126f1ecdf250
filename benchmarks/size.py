"""Measure what one stream, event and step costs here, and compute the size of an installation.

Each cost is the CPU time or memory of one process, so other load on the machine changes it little.
Streams of one run are measured with one client and with many, to tell the cost of an event from
that of its delivery. No two events share a write; at many events a second they do, and cost less.
Steps are those of ``engine``: asynchronous functions that do nothing; what yours do comes on top.
Commits are stored on three NATS servers. ``--costs FILE`` takes the costs from the JSON of an
earlier measurement instead.
"""

import argparse
import asyncio
import json
import math
import re
import sys
import tempfile
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.fanout import publish
from benchmarks.load import throughput
from benchmarks.sizing.arithmetic import Costs, Demand
from benchmarks.sizing.tables import report
from benchmarks.stream_readers import StreamReaders, stream_readers
from benchmarks.stream_servers import StreamServer, tailrace
from benchmarks.table import print_rows
from benchmarks.tailrace_engine import tailrace as engines
from harness.generators.hand_written_log import HandWrittenLog, step_completed, step_started
from harness.nats.cluster import NatsCluster
from harness.nats.site import create_streams
from harness.processes.open_files import allow_open_files
from harness.processes.polling import until
from harness.processes.process_usage import cpu_seconds, memory_bytes
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.topology import EVENTS, topology
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import Subjects

SCENARIOS: Final = (
    Demand(clients=1_000, events_per_s=100, executions_per_day=100_000),
    Demand(clients=10_000, events_per_s=1_000, executions_per_day=500_000),
    Demand(clients=100_000, events_per_s=10_000, executions_per_day=2_000_000),
    Demand(clients=1_000_000, events_per_s=100_000, executions_per_day=10_000_000),
)
_WARM_UP: Final = 20
_QUICK_S: Final = 0.001
_SLOW_S: Final = 0.05
"""Time between events: so that the process stays warm, and so that no two share a write."""
_HEARTBEAT_S: Final = 1.0
_LENGTH: Final = 20
_RUN_EVENTS: Final = 3
"""Events of a run beside those of its steps, each of which has two."""
_WRITERS: Final = 20
_MICRO: Final = 1e6

Part = dict[str, float]


class _Meter:
    """The CPU time of a process since its last reading."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = cpu_seconds(pid)

    def read_us(self) -> float:
        """Return the microseconds since the last reading."""
        before, self._before = self._before, cpu_seconds(self._pid)
        return (self._before - before) * _MICRO


async def measure_streams(clients: int, events: int, idle_s: float) -> Part:
    """Measure streams of one run on one API replica."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            tailrace(Path(folder), heartbeat=f"{_HEARTBEAT_S:g}s") as server,
            stream_readers(server) as readers,
        ):
            await readers.connect(1)
            await _event_us(server, readers, 1, events, _QUICK_S)  # loads code
            one_us = await _event_us(server, readers, 1, 10 * events, _QUICK_S)
            # The first clients also pay for pools that they fill.
            await readers.connect(_WARM_UP - 1)
            meter, memory = _Meter(server.pid), memory_bytes(server.pid)
            await readers.connect(clients - _WARM_UP)
            opening_us = meter.read_us() / (clients - _WARM_UP)
            stream_bytes = (memory_bytes(server.pid) - memory) / (clients - _WARM_UP)
            many_us = await _event_us(server, readers, clients, events, _SLOW_S)
            meter.read_us()
            await asyncio.sleep(idle_s)
            heartbeat_us = meter.read_us() / (clients * idle_s / _HEARTBEAT_S)
            frame_bytes = await asyncio.to_thread(_frame_bytes, server.port)
    delivery_us = max(0.0, many_us - one_us) / (clients - 1)
    return {
        "stream_bytes": stream_bytes,
        "heartbeat_us": heartbeat_us,
        "opening_us": opening_us,
        "event_us": max(0.0, one_us - delivery_us),
        "delivery_us": delivery_us,
        "frame_bytes": frame_bytes,
    }


async def _event_us(
    server: StreamServer, readers: StreamReaders, clients: int, events: int, pause_s: float
) -> float:
    """Return the CPU time of an event for all clients."""
    meter = _Meter(server.pid)
    taking = asyncio.create_task(readers.take(clients * events))
    await publish(server, events, pause_s)
    taken = await taking
    return meter.read_us() * clients / taken.marks


def _frame_bytes(port: int) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    figures = dict(re.findall(r"(?m)^tailrace_api_stream_(bytes|events)_total (\S+)$", text))
    return float(figures["bytes"]) / float(figures["events"])


async def measure_steps(executions: int) -> Part:
    """Measure runs on one worker, one API replica and one NATS server."""
    with tempfile.TemporaryDirectory() as folder:
        running = engines(Path(folder), synced=False, workers=1, in_flight=executions)
        async with running as (engine, _):
            _, (cost,) = await throughput([engine], executions, _LENGTH, 1, 1)
            log, others = await engine.stored_bytes()
            await engine.burst(executions, _LENGTH)
            log_after, others_after = await engine.stored_bytes()
    steps = executions * _LENGTH
    of = cost["of which"]
    return {
        "api_step_us": of["API"],
        "worker_step_us": of["worker"],
        "nats_step_us": of["nats-server"],
        "step_bytes": (log_after - log) / steps,
        "other_bytes": (others_after - others) / steps,
        "step_events": (2 * _LENGTH + _RUN_EVENTS) / _LENGTH,
    }


async def measure_log(commits: int, pods: int) -> Part:
    """Measure the log on three NATS servers: its leader, the others, and what pods receive."""
    with tempfile.TemporaryDirectory() as folder, NatsCluster(Path(folder)) as cluster:
        client = await nats.connect(cluster.urls)
        jetstream = JetStream(client)
        await create_streams(jetstream, topology(ApiSettings(nats_replicas=cluster.replicas)))
        await _store(client, commits // 10)  # the first ones also create files
        info = await jetstream.api(f"STREAM.INFO.{Subjects().stream(EVENTS)}")
        meters = {name: _Meter(pid) for name, pid in cluster.pids.items()}
        await _store(client, commits)
        spent = {name: meter.read_us() / commits for name, meter in meters.items()}
        listeners = [_Listener(await nats.connect(cluster.urls)) for _ in range(pods)]
        for listener in listeners:
            await listener.subscribe()
        # A server hears of subscriptions on the others later: what it publishes before is not sent.
        while not all(listener.received for listener in listeners):
            await _store(client, _WRITERS)
        await _all_caught_up(jetstream, listeners)
        for listener in listeners:
            listener.received = 0
        for meter in meters.values():
            meter.read_us()
        await _store(client, commits)
        await _all_caught_up(jetstream, listeners)
        with_pods = sum(meter.read_us() / commits for meter in meters.values())
        received = sum(listener.received for listener in listeners)
        for listener in listeners:
            await listener.client.drain()
        await client.close()
    leader = spent.pop(info["cluster"]["leader"])
    return {
        "leader_us": leader,
        "follower_us": sum(spent.values()) / len(spent),
        "live_us": max(0.0, (with_pods - leader - sum(spent.values())) * commits / received),
    }


class _Listener:
    """Receives the live log, as a pod does."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.received = 0
        self.last_sequence = 0

    async def subscribe(self) -> None:
        await self.client.subscribe(Subjects().live_logs(), cb=self._receive)
        await self.client.flush()

    async def _receive(self, message: Msg) -> None:
        self.received += 1
        self.last_sequence = int((message.headers or {})["Nats-Sequence"])


async def _all_caught_up(jetstream: JetStream, listeners: list[_Listener]) -> None:
    """Wait until all listeners have received what is stored."""
    info = await jetstream.api(f"STREAM.INFO.{Subjects().stream(EVENTS)}")
    last = info["state"]["last_seq"]

    async def caught_up() -> bool:
        return all(listener.last_sequence >= last for listener in listeners)

    await until(caught_up)


async def _store(client: Client, commits: int) -> None:
    """Append commits of several runs at the same time, each with the events of a step."""

    async def write() -> None:
        log = HandWrittenLog(client)
        for _ in range(math.ceil(commits / _WRITERS)):
            await log.commit(step_completed("n", {}), step_started("n"))

    await asyncio.gather(*(write() for _ in range(_WRITERS)))


async def measure(options: argparse.Namespace) -> Costs:
    """Measure everything."""
    parts = [
        await measure_streams(options.streams, options.deliveries, options.idle_seconds),
        await measure_steps(options.runs),
        await measure_log(options.commits, options.pods),
    ]
    merged = {name: round(value, 2) for part in parts for name, value in part.items()}
    return Costs(**merged)


def _print(found: dict[str, Any]) -> None:
    out = sys.stdout.write
    out("Costs, in microseconds of a core and bytes\n")
    print_rows([{"cost": name, "": value} for name, value in found["costs"].items()], as_json=False)
    out("\nSize, at the busiest time\n")
    print_rows(found["size"], as_json=False)
    out("\nStreams of a pod relative to the average of all pods, in the last column's size\n")
    print_rows(found["spread"], as_json=False)
    out(f"\n{found['simulated']}\n")


def main() -> None:
    """Measure, compute, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--costs", type=Path, help="JSON of an earlier measurement")
    parser.add_argument("--clients", type=int, help="open streams")
    parser.add_argument("--events", type=float, help="events that runs store in a second")
    parser.add_argument("--executions", type=float, help="runs that end in a day")
    parser.add_argument("--steps", type=int, default=10, help="steps of a run")
    parser.add_argument("--followers", type=int, default=10, help="clients that follow one run")
    parser.add_argument("--replicas", type=int, default=3, choices=(1, 3, 5), help="copies")
    parser.add_argument("--retention", type=float, default=7, help="days after the end of a run")
    parser.add_argument("--streams", type=int, default=1000, help="streams to measure with")
    parser.add_argument("--deliveries", type=int, default=100, help="events to measure with")
    parser.add_argument("--idle-seconds", type=float, default=10, help="for heartbeats")
    parser.add_argument("--runs", type=int, default=256, help="concurrent runs to measure with")
    parser.add_argument("--commits", type=int, default=5000, help="commits to measure with")
    parser.add_argument("--pods", type=int, default=10, help="receivers to measure with")
    options = parser.parse_args()
    own = (options.clients, options.events, options.executions)
    if any(each is not None for each in own) and None in own:
        parser.error("--clients, --events and --executions describe one demand: give all three")
    if options.streams <= _WARM_UP:
        parser.error(f"--streams: at least {_WARM_UP + 1}")
    demands: tuple[Demand, ...] = SCENARIOS if None in own else (Demand(*own),)
    shape = {
        "steps": options.steps,
        "followers": options.followers,
        "replicas": options.replicas,
        "retention_days": options.retention,
    }
    demands = tuple(replace(demand, **shape) for demand in demands)
    if options.costs:
        costs = Costs(**json.loads(options.costs.read_text())["costs"])
    else:
        allow_open_files(2 * options.streams + 500)
        costs = uvloop.run(measure(options))
    found = report(costs, demands)
    if options.json:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        _print(found)


if __name__ == "__main__":
    main()
