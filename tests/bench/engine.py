"""What a run costs: latency of short and long chains, and steps a second.

Latency is what a user sees: from the POST that starts a run to its first and last frame, over
HTTP, in one process of each service. Throughput is the engine's own: executions are created in
the log, and finished when their terminal event is republished. ``transform`` is evaluated inside
a commit; ``simulate`` is a step with effects, started and completed in commits of their own.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from nats.aio.msg import Msg

from bench.table import Row, print_rows, spread
from harness.api import ApiProcess
from harness.installation import TENANT, Installation, installation
from harness.nats import NatsServer
from harness.workflows import definition
from tailrace_shared.workflow_store import StoredWorkflow

_RUNS = 100


def chain(length: int, node_type: str) -> dict[str, Any]:
    """Return a chain of nodes, each needing the one before."""
    parameters = {"value": 1} if node_type == "transform" else {}
    return {
        f"n{i}": {"type": node_type, "with": parameters, "needs": [f"n{i - 1}"] if i else []}
        for i in range(length)
    }


async def store(site: Installation, name: str, nodes: dict[str, Any]) -> StoredWorkflow:
    """Store a workflow under a name."""
    return await site.store(definition(nodes, id=name))


async def latency(site: Installation, url: str) -> list[Row]:
    """Measure runs one after the other, by the stream that starts them."""
    rows = []
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        for length, node_type in ((1, "transform"), (40, "transform"), (40, "simulate")):
            name = f"{node_type}-{length}"
            await store(site, name, chain(length, node_type))
            samples = [await _one_run(client, name) for _ in range(_RUNS)][10:]
            for what, values in (
                ("start to first event", [first for first, _last in samples]),
                ("start to finish", [last for _first, last in samples]),
            ):
                figures = spread(values)
                rows.append({"what": f"{what}, {length} x {node_type}", "unit": "ms", **figures})
    return rows


async def _one_run(client: httpx.AsyncClient, workflow: str) -> tuple[float, float]:
    begun = time.perf_counter()
    first = 0.0
    body = {"flow_id": workflow, "input_data": {}}
    async with client.stream("POST", "/api/v1/executions/stream", json=body) as response:
        async for line in response.aiter_lines():
            if not line.startswith("data: "):
                continue
            kind = json.loads(line[6:])["type"]
            # `executionStarted` is the API's own; the first event of the worker counts.
            if not first and kind != "executionStarted":
                first = time.perf_counter() - begun
            if kind in {"executionFinished", "executionError"}:
                return first, time.perf_counter() - begun
    raise RuntimeError("the stream ended before the run")


async def throughput(site: Installation, workers: int) -> list[Row]:
    """Measure 64 executions of 20 nodes at once."""
    rows = []
    for node_type in ("transform", "simulate"):
        stored = await store(site, f"rate-{node_type}", chain(20, node_type))
        await _burst(site, stored, 64)
        samples = [await _burst(site, stored, 64) for _ in range(5)]
        figures = spread([64 * 20 / seconds for seconds in samples], unit=1)
        what = f"64 executions x 20 {node_type}, {workers} worker(s)"
        rows.append({"what": what, "unit": "steps/s", **figures})
    return rows


async def _burst(site: Installation, stored: StoredWorkflow, count: int) -> float:
    left = count
    done = asyncio.Event()

    async def heard(message: Msg) -> None:
        nonlocal left
        left -= b'"execution:completed"' in message.data
        if not left:
            done.set()

    live = site.subjects.tenant_live(TENANT)
    subscription = await site.jetstream.client.subscribe(live, cb=heard)
    begun = time.perf_counter()
    await asyncio.gather(*(site.start(stored) for _ in range(count)))
    await done.wait()
    elapsed = time.perf_counter() - begun
    await subscription.unsubscribe()
    return elapsed


@asynccontextmanager
async def _system(folder: Path, workers: int) -> AsyncIterator[tuple[Installation, str]]:
    with NatsServer(folder / "nats") as nats:
        async with installation(nats, folder) as site:
            for _ in range(workers):
                site.worker(log_level="warning")
            with ApiProcess(nats.url, folder, log_level="warning") as api:
                yield site, f"http://127.0.0.1:{api.port}"


async def measure() -> list[Row]:
    """Return all figures."""
    rows: list[Row] = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            async with _system(Path(folder), workers) as (site, url):
                if workers == 1:
                    rows += await latency(site, url)
                rows += await throughput(site, workers)
    return rows


def main() -> None:
    """Measure and print. File storage syncs as JetStream does by default: every two minutes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    print_rows(asyncio.run(measure()), as_json=arguments.json)


if __name__ == "__main__":
    main()
