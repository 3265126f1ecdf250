"""Tailrace in the engine benchmark: NATS, one API replica, and worker processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from nats.aio.msg import Msg

from benchmarks.load import Mode, post, timed
from harness.generators.workflows import definition
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.installation import TENANT, Installation, installation
from harness.processes.service import Service
from tailrace_shared.execution.summary import RunSummary
from tailrace_shared.nats.topology import EVENTS, RUNS

NOTHING: Final = "bench.nothing"
TRANSFORM: Final = "transform"
EACH_STEP: Final = {
    NOTHING: "An async function that returns {}, on the worker's event loop. One message a step: "
    "its completion and the start of the next step, fenced, acknowledged before that one runs.",
    TRANSFORM: "Evaluated inside a commit, which takes up to 64 events: fewer messages than "
    "steps, so not comparable with steps that are stored one by one.",
}
_ENDS: Final = {"completed", "failed", "cancelled"}
_decode = msgspec.json.Decoder(RunSummary).decode


def chain(length: int, node_type: str) -> dict[str, Any]:
    """Return nodes that each need the previous one."""
    return {
        f"n{i}": {**_node(node_type), "needs": [f"n{i - 1}"] if i else []} for i in range(length)
    }


def wide(length: int, node_type: str) -> dict[str, Any]:
    """Return a first node, parallel nodes that need it, and a last node that joins them."""
    middle = [f"n{i}" for i in range(1, length - 1)]
    return {
        "first": _node(node_type),
        **{node_id: {**_node(node_type), "needs": ["first"]} for node_id in middle},
        "join": {**_node(node_type), "needs": middle},
    }


def _node(node_type: str) -> dict[str, Any]:
    return {"type": node_type, "with": {"value": 1} if node_type == TRANSFORM else {}}


class Tailrace:
    """A running Tailrace, measured with one type of node."""

    def __init__(self, site: Installation, url: str, mode: Mode, node_type: str) -> None:
        self.mode = Mode(f"Tailrace, {node_type}", mode.sync, mode.survives, mode.is_default)
        self.processes: dict[str, list[int]] = {}
        self.node_type = node_type
        self._site = site
        self._url = url
        self._stored: set[str] = set()

    async def run(self, length: int) -> float:
        """Run one chain with the run-and-watch request, to its last frame."""
        workflow = await self._chain(length)
        body = {"flow_id": workflow, "input_data": {}}
        url = f"{self._url}/api/v1/executions/stream"
        return await timed(post(url, body, until=b'"executionFinished"'))

    async def burst(self, executions: int, length: int) -> float:
        """Start chains over HTTP; each ends when the run index shows it as ended."""
        return await self.burst_of(await self._chain(length), executions)

    async def burst_of(self, workflow: str, executions: int) -> float:
        """Run a stored workflow many times concurrently.

        Raises:
            RuntimeError: a run did not complete.
        """
        ended: asyncio.Queue[str] = asyncio.Queue()

        async def updated(message: Msg) -> None:
            if (summary := _decode(message.data)).status in _ENDS:
                ended.put_nowait(summary.status)

        async def all_runs() -> None:
            url = f"{self._url}/api/v1/workflows/{workflow}/runs"
            await asyncio.gather(*(post(url, {"input": {}}) for _ in range(executions)))
            for _ in range(executions):
                if (status := await ended.get()) != "completed":
                    raise RuntimeError(f"a run of {workflow} is {status}")

        client = self._site.jetstream.client
        index = f"$KV.{self._site.subjects.stream(RUNS)}.{TENANT}.{workflow}.*"
        subscription = await client.subscribe(index, cb=updated)
        await client.flush()
        try:
            return await timed(all_runs())
        finally:
            await subscription.unsubscribe()

    async def stored_bytes(self) -> tuple[int, int]:
        """Return the bytes of the log, and those of all other streams."""
        listed = await self._site.jetstream.api("STREAM.LIST", {"offset": 0})
        sizes = {each["config"]["name"]: each["state"]["bytes"] for each in listed["streams"]}
        log = sizes.pop(self._site.subjects.stream(EVENTS))
        return log, sum(sizes.values())

    async def store(self, name: str, nodes: dict[str, Any]) -> str:
        """Store a workflow unless it is stored already; return its id."""
        if name not in self._stored:
            await self._site.store(definition(nodes, id=name))
            self._stored.add(name)
        return name

    async def _chain(self, length: int) -> str:
        name = f"chain-{self.node_type.replace('.', '-')}-{length}"
        return await self.store(name, chain(length, self.node_type))


@asynccontextmanager
async def tailrace(
    folder: Path, *, synced: bool, workers: int, in_flight: int
) -> AsyncIterator[tuple[Tailrace, Tailrace]]:
    """Run Tailrace; yields it with separately stored steps, and with steps inside a commit."""
    # One tenant may use two thirds of a worker's slots; more of its runs would be queued.
    slots = in_flight * 3 // 2 + 2
    mode = (
        Mode("", "before each ack (sync_interval: always)", "power failure", is_default=False)
        if synced
        else Mode("", "every 2 min (default)", "process crash", is_default=True)
    )
    with NatsServer(folder / "nats", sync_interval="always" if synced else "") as nats:
        async with installation(nats, folder) as site:
            services = [
                site.worker(
                    nodes="benchmarks.nodes", worker_threads=str(slots), log_level="warning"
                )
                for _ in range(workers)
            ]
            with ApiProcess(nats.url, folder, log_level="warning") as api:
                engines = tuple(Tailrace(site, api.url, mode, kind) for kind in EACH_STEP)
                for engine in engines:
                    engine.processes = _processes(nats, api, services)
                yield engines[0], engines[1]


def _processes(nats: NatsServer, api: Service, workers: list[Service]) -> dict[str, list[int]]:
    pids = [worker.pid for worker in workers]
    return {"worker": pids, "nats-server": [nats.pid], "API": [api.pid]}
