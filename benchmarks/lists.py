"""Measure lists and starts on an installation with very many executions, and on an empty one.

One NATS server holds finished executions and some that wait for a signal, spread among them, as an
API and workers would have written them. Then an API and a worker are started, and pages of the
lists are requested one after the other. ``ms`` is the median time of the client. ``cpu_ms`` is the
mean CPU time of NATS and the service, which depends less on what else the machine does.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import msgspec
from nats.aio.client import Client

from benchmarks.table import Row, print_rows
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.process_usage import cpu_seconds
from harness.processes.service import Service
from tailrace_shared.execution import events as ev
from tailrace_shared.execution.commit_status import STATE, WORKFLOW
from tailrace_shared.execution.commits import encode_commits
from tailrace_shared.execution.events import Event
from tailrace_shared.execution.state import ExecutionState, fold
from tailrace_shared.execution.summary import summary_of
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.provision import ensure
from tailrace_shared.nats.topology import topology
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.indexes.start_index import Start
from tailrace_shared.stores.indexes.waiting_index import Waiting

_TENANT: Final = "default"
_WORKFLOWS: Final = 20
_RARE_EVERY: Final = 50_000
_IN_FLIGHT: Final = 2_000
_NOW: Final = "2026-01-15T10:30:00.000Z"
_PLACEHOLDER: Final = b"<execution>"

_Message = tuple[str, bytes, dict[str, str] | None]


class _Cost(NamedTuple):
    """The cost of a request or a start.

    Attributes:
        ms: its time, in milliseconds.
        cpu_ms: CPU time of NATS and the service, in milliseconds.
    """

    ms: float
    cpu_ms: float


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--finished", type=int, default=1_000_000)
    parser.add_argument("--waiting", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=20, help="requests of each kind")
    parser.add_argument("--store", type=Path, help="keep the full store here, and use it again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty = asyncio.run(_measure(Path(folder), 0, 0, options.requests))
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder)
        full = asyncio.run(_measure(store, options.finished, options.waiting, options.requests))
    rows: list[Row] = [
        {
            "what": what,
            "empty_ms": round(empty[what].ms, 1),
            "full_ms": round(full[what].ms, 1),
            "empty_cpu_ms": round(empty[what].cpu_ms, 1),
            "full_cpu_ms": round(full[what].cpu_ms, 1),
        }
        for what in full
    ]
    print_rows(rows, as_json=options.json)


async def _measure(folder: Path, finished: int, waiting: int, requests: int) -> dict[str, _Cost]:
    is_filled = (folder / "filled").exists()
    server = NatsServer(folder / "nats").start()
    try:
        if not is_filled:
            await _prepare(server.url, finished, waiting)
            (folder / "filled").touch()
            # A server that has just stored millions of messages still has work to do.
            server.stop()
            server.start()
        return await asyncio.to_thread(_costs, server, folder, requests)
    finally:
        server.stop()


async def _prepare(nats_url: str, finished: int, waiting: int) -> None:
    settings = CommonSettings(nats_url=nats_url)
    client = await connect(settings, "bench")
    await ensure(JetStream(client), topology(settings))
    begun = time.monotonic()
    await _fill(client, finished, waiting)
    # As in every installation: nothing is left of versions without the live index.
    await client.request("$KV.live.adopted", b"")
    await client.close()
    sys.stderr.write(f"{finished} finished, {waiting} waiting: {time.monotonic() - begun:.0f} s\n")


async def _fill(client: Client, finished: int, waiting: int) -> None:
    for count, (subject, payload, headers) in enumerate(_messages(finished, waiting), 1):
        if count % _IN_FLIGHT:
            await client.publish(subject, payload, headers=headers)
        else:
            # Its acknowledgement shows that the server has stored what was sent before.
            await client.request(subject, payload, timeout=60, headers=headers)


def _messages(finished: int, waiting: int) -> Iterator[_Message]:
    total = finished + waiting
    every = max(total // waiting, 1) if waiting else 0
    first_ms = int(time.time() * 1000) - total
    done, held = _finished(), _waiting()
    for number in range(total):
        digits = f"{first_ms + number:012x}"
        execution = f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"
        is_waiting = bool(every) and number % every == 0 and number // every < waiting
        is_rare = number % _RARE_EVERY == 1
        workflow = "rare" if is_rare else f"flow{number % _WORKFLOWS}"
        for subject, payload, headers in held if is_waiting else done:
            yield (
                subject.format(execution=execution, workflow=workflow),
                payload.replace(_PLACEHOLDER, execution.encode()),
                None if headers is None else {**headers, WORKFLOW: workflow},
            )


def _finished() -> list[_Message]:
    events = [
        *_begun(),
        ev.ExecutionCompleted(ev.Completed(_id(), "completed", 5, {"ok": True}), _NOW),
    ]
    return _stored(events)


def _waiting() -> list[_Message]:
    wait = ev.StepWait("ask", "await", "waiting", wait="signal", attempt=1, triggers=["paid"])
    events = [
        *_begun(),
        ev.StepStarted(ev.StepBegun("ask", "await", "running", 1, _NOW), _NOW),
        ev.StepWaiting(wait, _NOW),
        ev.ExecutionPaused(ev.Paused(_id(), "paused", "approval", waiting=["ask"]), _NOW),
    ]
    entry = Waiting(_id(), "ask", "flow", "Flow", "", _NOW, triggers=["paid"], input={"order": 7})
    return [
        *_stored(events),
        ("$KV.live." + _TENANT + ".{workflow}.{execution}", b"", None),
        ("$KV.waiting." + _TENANT + ".paid.{execution}.ask", b"", None),
        ("$KV.waiting." + _TENANT + ".{execution}.ask", msgspec.json.encode(entry), None),
    ]


def _begun() -> list[Event]:
    queued = ev.Queued(_id(), "flow", "Flow", 1, {"order": 7}, "queued")
    return [
        ev.ExecutionQueued(queued, _NOW),
        ev.ExecutionStarted(ev.Started(_id(), "running", _NOW), _NOW),
    ]


def _stored(events: list[Event]) -> list[_Message]:
    state: ExecutionState = fold(events)
    (payload,) = encode_commits(events)
    start = Start(_id(), 1, _NOW)
    return [
        ("tr.starts." + _TENANT + ".{workflow}", msgspec.json.encode(start), None),
        ("tr.log." + _TENANT + ".{execution}", payload, {STATE: str(state.commit_status)}),
        (
            "$KV.runs." + _TENANT + ".{workflow}.{execution}",
            msgspec.json.encode(summary_of(state)),
            None,
        ),
    ]


def _id() -> str:
    return _PLACEHOLDER.decode()


def _costs(server: NatsServer, folder: Path, requests: int) -> dict[str, _Cost]:
    costs: dict[str, _Cost] = {}
    worker = Service("tailrace_worker", {"NATS_URL": server.url}, folder / "worker.log")
    costs["worker start-up"] = _cost_of_start(worker, server)
    worker.stop()
    api = ApiProcess(server.url, folder)
    costs["API start-up"] = _cost_of_start(api, server)
    try:
        with httpx.Client(base_url=api.url, timeout=120) as http:
            costs |= _of_requests(http, requests, (server.pid, api.pid))
    finally:
        api.stop()
    return costs


def _cost_of_start(service: Service, server: NatsServer) -> _Cost:
    before, begun = cpu_seconds(server.pid), time.perf_counter()
    service.start()
    took = time.perf_counter() - begun
    used = cpu_seconds(server.pid) - before + cpu_seconds(service.pid)
    return _Cost(took * 1000, used * 1000)


def _of_requests(http: httpx.Client, requests: int, processes: tuple[int, ...]) -> dict[str, _Cost]:
    costs: dict[str, _Cost] = {}

    def measure(what: str, path: str, count: int, **query: str) -> None:
        times, before = [], sum(map(cpu_seconds, processes))
        for _ in range(count):
            begun = time.perf_counter()
            _get(http, path, **query)
            times.append(time.perf_counter() - begun)
        used = sum(map(cpu_seconds, processes)) - before
        costs[what] = _Cost(statistics.median(times) * 1000, used * 1000 / count)

    measure("paused list, first", "/api/workflow/paused", 1)
    measure("paused list, whole", "/api/workflow/paused", 3)
    runs, waits = "/api/v1/executions", "/api/v1/waiting"
    for what, path, query in (
        ("run list, first page", runs, {}),
        ("run list, deep page", runs, {"cursor": _deep(http, runs)}),
        ("run list, one workflow", runs, {"workflow_id": "flow1"}),
        ("run list, rare workflow", runs, {"workflow_id": "rare"}),
        ("run list, status=completed", runs, {"status": "completed"}),
        ("run list, status=paused", runs, {"status": "paused"}),
        ("run list, status=failed (none)", runs, {"status": "failed"}),
        ("waiting list, first page", waits, {}),
        ("waiting list, second page", waits, {"cursor": _get(http, waits).get("cursor")}),
    ):
        given = {name: value for name, value in query.items() if value is not None}
        measure(what, path, requests, **given)
    return costs


def _deep(http: httpx.Client, path: str) -> str | None:
    """Return a cursor in the middle of the list."""
    first = _get(http, path).get("cursor")
    return first if first is None else f"{first[0]}{int(first[1:]) // 2}"


def _get(http: httpx.Client, path: str, **query: str) -> dict[str, Any]:
    answer = http.get(path, params=query)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


if __name__ == "__main__":
    main()
