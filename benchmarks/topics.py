"""Measure streams of many different topics, at a process that knows the runs or does not.

Each client has topics of its own over one connection. ``cold`` starts the process after the runs
have begun, as every deployment does; ``known`` starts it before. ``feeds`` opens the feeds of many
tenants, among whose commits those of one tenant are few. Every scenario reports how long the
streams took to open, the CPU time and the delay of a delivered event, the reads of the log, and how
long another tenant's requests took meanwhile.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
import time
import urllib.request
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import nats
import uvloop
from nats.aio.client import Client

from benchmarks.table import Row, print_rows
from harness.generators import hand_written_log as written
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.open_files import allow_open_files
from harness.processes.process_usage import cpu_seconds, memory_bytes
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import ApiSettings
from tailrace_shared.subjects import Subjects

_MAX_ANSWER_BYTES: Final = 256 * 1024 * 1024
_WORKFLOWS: Final = 50
_OPEN_TIMEOUT_S: Final = 130.0
_SILENCE_S: Final = 20.0
_IDLE_S: Final = 3.0
_PROBE_INTERVAL_S: Final = 0.1
_PROBE_TIMEOUT_S: Final = 30.0
_READS: Final = re.compile(
    r"^tailrace_api_(replay_reads|live_repairs)(?:_total)? (\S+)", re.MULTILINE
)
_SETTINGS: Final = {
    "max_streams": "20000",
    "max_tenant_streams": "20000",
}


class Scenario(NamedTuple):
    """The streams to open and the events to publish.

    Attributes:
        paths: for each client, its tenant and the path that it requests.
        runs: the runs, each a tenant and an execution.
        deliveries: for each run, the number of clients that receive its events.
        is_cold: whether the process starts after the runs.
    """

    name: str
    paths: Sequence[tuple[str, str]]
    runs: Sequence[tuple[str, str]]
    deliveries: Sequence[int]
    is_cold: bool


def sets(clients: int, topics: int, runs: int, extra: str, *, is_cold: bool) -> Scenario:
    """Return a scenario in which each client follows ``topics`` runs that no other has together."""
    ids = [f"run{number}" for number in range(runs)]
    followed = [0] * runs
    paths = []
    for client in range(clients):
        chosen = sorted({(client + each * (each + 1) * 37) % runs for each in range(topics)})
        for number in chosen:
            followed[number] += 1
        names = [f"execution:{ids[number]}" for number in chosen]
        names += [name for name in extra.split(",") if name]
        paths.append(("default", f"/api/v1/sse/stream?topics={','.join(names)}"))
    if "feed" in extra:
        followed = [count + clients for count in followed]
    name = f"{clients} sets of {topics} runs{' + ' + extra if extra else ''}"
    suffix = "cold" if is_cold else "known"
    return Scenario(
        f"{name}, {suffix}", paths, [("default", each) for each in ids], followed, is_cold
    )


def feeds(tenants: int, clients: int) -> Scenario:
    """Return a scenario in which each of many tenants has some clients of its feed."""
    names = [f"t{number}" for number in range(tenants)]
    paths = [(name, "/api/realtime/events") for name in names for _ in range(clients)]
    runs = [(name, f"run-{name}") for name in names]
    return Scenario(
        f"{tenants} tenants with {clients} feeds", paths, runs, [clients] * tenants, is_cold=True
    )


class _Log:
    """Publishes commits as a worker does, without waiting for each."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def begin(self, runs: Sequence[tuple[str, str]]) -> None:
        for number, (tenant, execution) in enumerate(runs):
            workflow = f"flow{number % _WORKFLOWS}"
            await self._commit(tenant, execution, workflow, written.queued(execution, workflow))
            events = written.started(execution), written.step_started("n")
            await self._commit(tenant, execution, workflow, *events)
        await self._client.flush()

    async def say(self, number: int, run: tuple[str, str]) -> None:
        # A message of a size and a kind that the streams of runs and the feed both show.
        event = written.step_progress("n", 50.0)
        event.data.message = f"~@{time.time_ns()}@"
        await self._commit(*run, f"flow{number % _WORKFLOWS}", event)

    async def _commit(self, tenant: str, execution: str, workflow: str, *events: Any) -> None:
        (payload,) = encode_commits(events)
        subject = Subjects().log(tenant, execution)
        headers = {WORKFLOW: workflow, STATE: "running 0"}
        await self._client.publish(subject, payload, headers=headers)


class _Readers:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def ask(self, *order: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write((" ".join(map(str, order)) + "\n").encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the reader process has ended")
        return json.loads(answer)


@contextlib.asynccontextmanager
async def _readers(port: int) -> AsyncIterator[_Readers]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.set_reader_process", str(port)),
        stdin=PIPE,
        stdout=PIPE,
        limit=_MAX_ANSWER_BYTES,
    )
    try:
        yield _Readers(process)
    finally:
        process.kill()
        await process.communicate()


class _Probe:
    """Requests of another tenant, one every 100 ms."""

    def __init__(self, url: str) -> None:
        self.delays: list[float] = []
        self.failed = 0
        self._url = f"{url}/api/v1/workflows/probe"

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await asyncio.to_thread(self._put)
            except OSError:
                self.failed += 1
            self.delays.append(time.monotonic() - began)
            await asyncio.sleep(_PROBE_INTERVAL_S)

    def _put(self) -> None:
        body = json.dumps(
            {"id": "probe", "nodes": {"n": {"type": "log", "with": {"message": "m"}}}}
        )
        request = urllib.request.Request(
            self._url,
            body.encode(),
            {"Content-Type": "application/json", "X-Organization-ID": "other"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=_PROBE_TIMEOUT_S) as answer:
            answer.read()


async def _reads(api: ApiProcess) -> int:
    def get() -> str:
        with urllib.request.urlopen(f"{api.url}/metrics", timeout=_PROBE_TIMEOUT_S) as answer:
            text: str = answer.read().decode()
            return text

    return int(sum(float(value) for _, value in _READS.findall(await asyncio.to_thread(get))))


async def measure(scenario: Scenario, rate: float, seconds: float) -> Row:
    """Measure one scenario."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(NatsServer(folder / "nats"))
        client = await nats.connect(server.url)
        await ensure(JetStream(client), topology(ApiSettings()))
        log = _Log(client)
        if scenario.is_cold:
            await log.begin(scenario.runs)
        api = stack.enter_context(ApiProcess(server.url, folder, log_level="warning", **_SETTINGS))
        async with _readers(api.port) as readers:
            row = await _measure(scenario, folder, api, log, readers, rate, seconds)
        await client.close()
        return row


async def _measure(
    scenario: Scenario,
    folder: Path,
    api: ApiProcess,
    log: _Log,
    readers: _Readers,
    rate: float,
    seconds: float,
) -> Row:
    paths = folder / "paths"
    if not scenario.is_cold:
        await asyncio.to_thread(paths.write_text, "default /api/realtime/events\n")
        await readers.ask("open", paths, _SILENCE_S)
        await log.begin(scenario.runs)
        await asyncio.sleep(2)
    lines = "".join(f"{tenant} {path}\n" for tenant, path in scenario.paths)
    await asyncio.to_thread(paths.write_text, lines)
    probe = _Probe(api.url)
    probing = asyncio.create_task(probe.run())
    memory, cpu, reads = memory_bytes(api.pid), cpu_seconds(api.pid), await _reads(api)
    opened = await readers.ask("open", paths, _OPEN_TIMEOUT_S)
    opening_cpu, opening_reads = cpu_seconds(api.pid) - cpu, await _reads(api) - reads
    memory = memory_bytes(api.pid) - memory
    idle_cpu = cpu_seconds(api.pid)
    await asyncio.sleep(_IDLE_S)
    idle_cpu = (cpu_seconds(api.pid) - idle_cpu) / _IDLE_S
    cpu, reads = cpu_seconds(api.pid), await _reads(api)
    events = int(rate * seconds)
    wanted = sum(scenario.deliveries[number % len(scenario.runs)] for number in range(events))
    taking = asyncio.create_task(readers.ask("take", wanted, _SILENCE_S))
    began = time.monotonic()
    for number in range(events):
        await asyncio.sleep(began + number / rate - time.monotonic())
        run = number % len(scenario.runs)
        await log.say(run, scenario.runs[run])
    taken = await taking
    # Less what the other tenant's requests and the open streams cost without events.
    cpu += idle_cpu * (time.monotonic() - began)
    cpu, reads = cpu_seconds(api.pid) - cpu, await _reads(api) - reads
    probing.cancel()
    delays, marks = sorted(taken["delays"]) or [0.0], max(taken["marks"], 1)
    probes = sorted(probe.delays)
    return {
        "what": scenario.name,
        "opened": f"{opened['opened'] - (not scenario.is_cold)} of {len(scenario.paths)}",
        "refused": opened["refused"],
        "opening s": round(opened["seconds"], 2),
        "opening CPU ms each": round(opening_cpu / len(scenario.paths) * 1e3, 2),
        "reads to open": opening_reads,
        "idle CPU %": round(idle_cpu * 100, 1),
        "KB each": round(memory / len(scenario.paths) / 1e3, 1),
        "delivered": f"{taken['marks']} of {wanted}",
        "µs of CPU per event": round(cpu / marks * 1e6, 1),
        "p50 ms": round(delays[len(delays) // 2] * 1e3, 1),
        "p95 ms": round(delays[int(len(delays) * 0.95)] * 1e3, 1),
        "reads": reads,
        "others' p95 ms": round(probes[int(len(probes) * 0.95)] * 1e3, 1),
        "others' max ms": round(probes[-1] * 1e3, 1),
        "others' failures": probe.failed,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--sets", type=int, nargs="*", default=[300, 3000], help="numbers of clients"
    )
    parser.add_argument("--topics", type=int, default=3, help="runs that each client follows")
    parser.add_argument("--extra", default="", help="further topics of each client, by commas")
    parser.add_argument("--modes", nargs="+", choices=["cold", "known"], default=["cold", "known"])
    parser.add_argument("--tenants", type=int, default=200, help="tenants with feeds; 0 for none")
    parser.add_argument("--feeds", type=int, default=3, help="clients of each tenant's feed")
    parser.add_argument("--rate", type=float, default=100, help="events per second")
    parser.add_argument("--seconds", type=float, default=10, help="seconds of events")
    arguments = parser.parse_args()
    allow_open_files(2 * max([*arguments.sets, arguments.tenants * arguments.feeds]) + 500)
    scenarios = [
        sets(count, arguments.topics, count, arguments.extra, is_cold=mode == "cold")
        for count in arguments.sets
        for mode in arguments.modes
    ]
    if arguments.tenants:
        scenarios.append(feeds(arguments.tenants, arguments.feeds))

    async def run() -> list[Row]:
        return [await measure(each, arguments.rate, arguments.seconds) for each in scenarios]

    print_rows(uvloop.run(run()), as_json=arguments.json)


if __name__ == "__main__":
    main()
