"""Measure streams of many different topics, at a process that knows the runs or does not.

Each client has topics of its own over one connection. ``cold`` starts the process after the runs
have begun, as every deployment does; ``known`` starts it before. With ``returning``, all clients
leave, an event of each run is published, and they resume by their last ids at another process.
``feeds`` opens the feeds of many tenants, among whose commits those of one tenant are few, and
``pipelines`` streams of different pipelines, and of all.

Every scenario has three parts, and reports the streams' opening, then the delay of events, both
while another tenant stores a workflow every 100 ms, and then the CPU time of a delivered event. For
the last, seconds with and without events alternate, and what the process uses without them is
subtracted. "bare" is the same CPU time of a process that only receives an event with the same NATS
client and writes it to as many clients.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import nats
import uvloop
from nats.aio.client import Client

from benchmarks.order_process import OrderProcess, order_process
from benchmarks.streams_of_topics.bare_process import SUBJECT
from benchmarks.streams_of_topics.other_tenant import OtherTenant
from benchmarks.streams_of_topics.scenarios import Run, Scenario, feeds, pipelines, sets
from benchmarks.table import Row, print_rows
from harness.generators import hand_written_log as written
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.open_files import allow_open_files
from harness.processes.process_usage import cpu_seconds, memory_bytes
from tailrace_shared.execution.commit_status import STATE, WORKFLOW, CommitStatus
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import Subjects

_READERS: Final = "benchmarks.streams_of_topics.reader_process"
_OPEN_TIMEOUT_S: Final = 130.0
_SILENCE_S: Final = 20.0
_REQUEST_TIMEOUT_S: Final = 30.0
# Deliveries of the last event of a second belong to that second.
_REST_S: Final = 0.05
# The bytes of a delivered event of a run.
_EVENT_BYTES: Final = 350
_READS: Final = re.compile(
    r"^tailrace_api_(replay_reads|live_repairs)(?:_total)? (\S+)", re.MULTILINE
)
# The stream that makes a process know the runs from their beginning.
_KNOWN_BY: Final = "/api/workflow/paused-stream"
_HEADERS: Final = {
    **{f"Nats-{name}": "EVENTS" for name in ("Stream", "Subject", "Sequence", "Last-Sequence")},
    **dict.fromkeys(("Nats-Time-Stamp", WORKFLOW, STATE), "2026-01-01T00:00:00.000000000Z"),
}
_SETTINGS: Final = {"max_streams": "20000", "max_tenant_streams": "20000"}

Say = Callable[[int], Awaitable[None]]
"""Publishes the event with a number."""


class _Log:
    """Publishes commits as a worker does, without waiting for each."""

    def __init__(self, client: Client, scenario: Scenario) -> None:
        self._client = client
        self._scenario = scenario

    async def begin(self) -> None:
        running = CommitStatus("running")
        for run in self._scenario.runs:
            await self._commit(run, running, written.queued(run.execution, run.workflow))
            begun = written.started(run.execution), written.step_started("n")
            await self._commit(run, running, *begun)
        await self._client.flush()

    async def say(self, number: int) -> None:
        run = self._scenario.runs[number % len(self._scenario.runs)]
        event, status = self._scenario.event(run, number)
        await self._commit(run, status, event)

    async def _commit(self, run: Run, status: CommitStatus, *events: Any) -> None:
        (payload,) = encode_commits(events)
        subject = Subjects().log(run.tenant, run.execution)
        headers = {WORKFLOW: run.workflow, STATE: str(status)}
        await self._client.publish(subject, payload, headers=headers)


class _Load(NamedTuple):
    """The events of one part of a measurement.

    Attributes:
        rate: events per second.
    """

    rate: float
    seconds: int

    @property
    def events(self) -> int:
        return int(self.rate) * self.seconds


class _Cost(NamedTuple):
    """CPU time in seconds with events less that without, and deliveries."""

    seconds: float
    marks: int
    idle: float

    @property
    def each(self) -> float:
        """The CPU time of a delivery, in microseconds."""
        return round(self.seconds / max(self.marks, 1) * 1e6, 1)


async def _publish(say: Say, first: int, load: _Load) -> None:
    began = time.monotonic()
    for number in range(load.events):
        await asyncio.sleep(began + number / load.rate - time.monotonic())
        await say(first + number)


async def _cost(
    pid: int, say: Say, readers: OrderProcess, scenario: Scenario, first: int, load: _Load
) -> _Cost:
    """Publish events in every second second; return what they cost."""
    busy, idle, second = 0.0, 0.0, _Load(load.rate, 1)
    taking = asyncio.create_task(
        readers.ask("take", scenario.wanted(load.events, first), _SILENCE_S)
    )
    for number in range(load.seconds):
        began, cpu = time.monotonic(), cpu_seconds(pid)
        await asyncio.sleep(1 + _REST_S)
        idle += (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
        began, cpu = time.monotonic(), cpu_seconds(pid)
        await _publish(say, first + number * second.events, second)
        await asyncio.sleep(began + 1 + _REST_S - time.monotonic())
        busy += (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    taken = await taking
    return _Cost((busy - idle) * (1 + _REST_S), taken["marks"], idle / load.seconds)


async def _bare(scenario: Scenario, folder: Path, load: _Load, url: str) -> float:
    """Return the CPU time of a delivery by a process that does nothing else, in microseconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.streams_of_topics.bare_process", url, stdout=PIPE
    )
    assert process.stdout is not None
    client = await nats.connect(url)

    async def say(number: int) -> None:
        count = scenario.deliveries[number % len(scenario.runs)]
        text = f"~@{time.time_ns()}@".ljust(_EVENT_BYTES, "x")
        # JetStream republishes a commit with as many headers.
        await client.publish(SUBJECT, f"{number} {count} {text}".encode(), headers=_HEADERS)

    try:
        port = int(await process.stdout.readline())
        async with order_process(_READERS, port) as readers:
            paths = _written(folder, scenario.paths)
            await readers.ask("open", paths, _OPEN_TIMEOUT_S)
            cost = await _cost(process.pid, say, readers, scenario, 0, load)
    finally:
        await client.close()
        process.kill()
        await process.communicate()
    return cost.each


def _written(folder: Path, paths: Sequence[tuple[str, str]]) -> Path:
    file = folder / "paths"
    file.write_text("".join(f"{tenant} {path}\n" for tenant, path in paths))
    return file


class _Site:
    """The API process that is measured, and NATS.

    Attributes:
        figures: what the opening has cost.
    """

    def __init__(self, server: NatsServer, api: ApiProcess) -> None:
        self.server = server
        self.api = api
        self.figures: Row = {}

    async def reads(self) -> int:
        """Return the number of reads of the log for streams so far."""

        def get() -> str:
            address = f"{self.api.url}/metrics"
            with urllib.request.urlopen(address, timeout=_REQUEST_TIMEOUT_S) as answer:
                text: str = answer.read().decode()
                return text

        found = _READS.findall(await asyncio.to_thread(get))
        return int(sum(float(value) for _, value in found))

    @asynccontextmanager
    async def opening(self, clients: int) -> AsyncIterator[None]:
        """Measure what opening the streams costs."""
        pid = self.api.pid
        memory, reads = memory_bytes(pid), await self.reads()
        cpu, messages = cpu_seconds(pid), self.server.figures()["in_msgs"]
        yield
        cpu = cpu_seconds(pid) - cpu
        messages = self.server.figures()["in_msgs"] - messages
        memory, reads = memory_bytes(pid) - memory, await self.reads() - reads
        self.figures = {
            "opening CPU ms each": round(cpu / clients * 1e3, 2),
            "reads to open": reads,
            "messages to NATS": messages,
            "KB each": round(memory / clients / 1e3, 1),
        }


async def measure(scenario: Scenario, load: _Load, delivery_interval: str) -> Row:
    """Measure one scenario."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(NatsServer(folder / "nats", monitored=True))
        bare = await _bare(scenario, folder, load, server.url)
        client = await nats.connect(server.url)
        await ensure(JetStream(client), topology(ApiSettings()))
        log = _Log(client, scenario)

        def start() -> ApiProcess:
            settings = {**_SETTINGS, "delivery_interval": delivery_interval}
            api = ApiProcess(server.url, folder, log_level="warning", **settings)
            return stack.enter_context(api)

        if scenario.mode != "known":
            await log.begin()
        api = await asyncio.to_thread(start)
        async with order_process(_READERS, api.port) as readers:
            if scenario.mode == "known":
                known = _written(folder, [("default", _KNOWN_BY)])
                await readers.ask("open", known, _SILENCE_S)
                await log.begin()
                await asyncio.sleep(2)
            paths = _written(folder, scenario.paths)
            order: tuple[object, ...] = ("open", paths, _OPEN_TIMEOUT_S)
            if scenario.mode == "returning":
                await readers.ask(*order)
                await readers.ask("leave")
                await asyncio.to_thread(api.stop)
                await _miss(log, scenario)
                api = await asyncio.to_thread(start)
                order = ("come_back", api.port, _OPEN_TIMEOUT_S)
            row = await _measure(scenario, _Site(server, api), log, readers, order, load)
        await client.close()
        return row | {"bare µs": bare}


async def _miss(log: _Log, scenario: Scenario) -> None:
    """Publish an event of each run, while no client is connected."""
    for number in range(len(scenario.runs)):
        await log.say(number)


async def _measure(
    scenario: Scenario,
    site: _Site,
    log: _Log,
    readers: OrderProcess,
    order: Sequence[object],
    load: _Load,
) -> Row:
    other = OtherTenant()
    first = len(scenario.runs) if scenario.mode == "returning" else 0
    events = scenario.wanted(load.events, first)
    async with other.storing(site.api.url):
        async with site.opening(len(scenario.paths)):
            opened = await readers.ask(*order)
        reads, wanted = await site.reads(), scenario.wanted(first) + events
        taking = asyncio.create_task(readers.ask("take", wanted, _SILENCE_S))
        await _publish(log.say, first, load)
        taken = await taking
    first += load.events
    cost = await _cost(site.api.pid, log.say, readers, scenario, first, load)
    reads = await site.reads() - reads
    wanted += scenario.wanted(load.events, first)
    # Without what clients missed while they were away.
    delays = sorted(taken["delays"][-events:]) or [0.0]
    others = sorted(other.delays)
    return {
        "what": scenario.name,
        "opened": f"{opened['opened']} of {len(scenario.paths)}",
        "refused": opened["refused"],
        "opening s": round(opened["seconds"], 2),
        **site.figures,
        "delivered": f"{taken['marks'] + cost.marks} of {wanted}",
        "p50 ms": round(delays[len(delays) // 2] * 1e3, 1),
        "p95 ms": round(delays[int(len(delays) * 0.95)] * 1e3, 1),
        "reads": reads,
        "µs of CPU per event": cost.each,
        "bare µs": 0.0,
        "idle CPU %": round(cost.idle * 100, 1),
        "others' p95 ms": round(others[int(len(others) * 0.95)] * 1e3, 1),
        "others' max ms": round(others[-1] * 1e3, 1),
        "others' failures": other.failed,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--sets", type=int, nargs="*", default=[300, 3000], help="numbers of clients"
    )
    parser.add_argument("--topics", type=int, default=3, help="runs that each client follows")
    parser.add_argument("--extra", default="", help="further topics of each client, by commas")
    modes = ["cold", "known", "returning"]
    parser.add_argument("--modes", nargs="+", choices=modes, default=modes)
    parser.add_argument("--tenants", type=int, default=200, help="tenants with feeds; 0 for none")
    parser.add_argument("--feeds", type=int, default=3, help="clients of each tenant's feed")
    parser.add_argument(
        "--pipelines", type=int, default=1000, help="pipelines of a tenant; 0 for none"
    )
    parser.add_argument(
        "--watchers", type=int, default=300, help="clients that follow ten pipelines of their own"
    )
    parser.add_argument("--rate", type=float, default=100, help="events per second")
    parser.add_argument(
        "--seconds", type=int, default=10, help="seconds of events, in each of the two parts"
    )
    parser.add_argument(
        "--delivery-interval", default="0s", help="the setting TAILRACE_DELIVERY_INTERVAL"
    )
    arguments = parser.parse_args()
    streams = [*arguments.sets, arguments.tenants * arguments.feeds, arguments.watchers]
    allow_open_files(2 * max(streams) + 500)
    scenarios = [
        sets(count, arguments.topics, arguments.extra, mode)
        for count in arguments.sets
        for mode in arguments.modes
    ]
    if arguments.tenants:
        scenarios.append(feeds(arguments.tenants, arguments.feeds))
    if arguments.pipelines:
        scenarios.append(pipelines(arguments.pipelines, arguments.watchers, each=10, dashboards=2))

    async def run() -> list[Row]:
        load = _Load(arguments.rate, arguments.seconds)
        interval = arguments.delivery_interval
        return [await measure(each, load, interval) for each in scenarios]

    print_rows(uvloop.run(run()), as_json=arguments.json)


if __name__ == "__main__":
    main()
