"""Real faults make the alerts fire in a real Prometheus, where a minute lasts for a second.

What else fires beside them depends on how busy the machine is; that a cause raises no other alert
is a test of the rules (``tests/unit/tools/test_observability.py``).
"""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.polling import until
from harness.processes.ports import free_port
from harness.processes.prometheus import Prometheus, compressed
from harness.processes.service import Service
from harness.sse.client import SseClient
from tools.observability import rules

COMPRESSION = 60
MAX_STREAMS = 2
PATIENCE_S = 240.0

pytestmark = pytest.mark.timeout(900)


class Drill:
    """An installation, its load, and the Prometheus that watches it."""

    def __init__(self, folder: Path, nats: NatsServer) -> None:
        self._folder = folder
        self.nats = nats
        self.api = ApiProcess(nats.url, folder, max_streams=str(MAX_STREAMS), retry="100ms")
        self.worker_port = free_port()
        ports = [self.api.port, self.worker_port, free_port()]  # nothing listens on the last one
        self.prometheus = Prometheus(folder / "prometheus", ports, compressed(rules(), COMPRESSION))

    def worker(self) -> Service:
        """Return a worker that has one slot, not started yet."""
        environment = {
            "NATS_URL": self.nats.url,
            "TAILRACE_METRICS_PORT": str(self.worker_port),
            "TAILRACE_WORKER_THREADS": "1",
            "TAILRACE_NODES": "slow_nodes",
            "PYTHONPATH": str(Path(__file__).parent),
        }
        return Service("tailrace_worker", environment, self._folder / "worker.log")

    async def until_firing(self, *names: str) -> None:
        """Wait until alerts have fired, not necessarily at the same time."""
        missing = set(names)

        async def have_fired() -> bool:
            missing.difference_update(await asyncio.to_thread(self.prometheus.firing))
            return not missing

        try:
            await until(have_fired, PATIENCE_S)
        except TimeoutError:
            pytest.fail(f"do not fire: {missing}")


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    with NatsServer(tmp_path / "nats") as nats:
        drill = Drill(tmp_path, nats)
        with drill.api, drill.prometheus:
            yield drill


@contextlib.asynccontextmanager
async def repeated(work: Callable[[], Awaitable[None]], interval_s: float) -> AsyncIterator[None]:
    """Repeat some work in the background, whether it succeeds or not."""

    async def repeat() -> None:
        while True:
            with contextlib.suppress(httpx.HTTPError, OSError):
                await work()
            await asyncio.sleep(interval_s)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()


async def test_faults_make_their_alerts_fire(drill: Drill):
    async with httpx.AsyncClient(base_url=drill.api.url, timeout=60) as http:
        assert await _put(http, "drill", {"type": "log", "with": {"message": "x"}})

        async def start(workflow: str = "drill") -> None:
            await http.post(f"/api/v1/workflows/{workflow}/runs", json={})

        async def resume() -> None:
            path = "/api/v1/sse/executions/unknown/stream"
            async with SseClient(drill.api.port, path, last_event_id="1-1-0") as stream:
                await stream.read()

        # No worker has ever been there, so this run stays queued.
        open_stream = f"/api/v1/sse/executions/{await _run(http)}/stream"
        async with contextlib.AsyncExitStack() as streams:
            for _ in range(MAX_STREAMS):
                stream = SseClient(drill.api.port, open_stream)
                await streams.enter_async_context(stream)
                await stream.take(1)
            async with repeated(start, 0.1), repeated(resume, 0.2):
                # There is no worker, no room for another stream, and one target is away.
                await drill.until_firing(
                    "TargetDown",
                    "StreamsRefused",
                    "ResumeErrorBudget",
                    "QueueGrows",
                    "NoWorkerTakesJobs",
                )
        with drill.worker():
            await until(lambda: _put(http, "slow", {"type": "slow"}), PATIENCE_S)
            # Five times as many as the worker can take, so that each waits for longer.
            async with repeated(functools.partial(start, "slow"), 0.1):
                await drill.until_firing("PickupErrorBudget")
            drill.nats.freeze()
            try:
                async with repeated(start, 0.1):
                    await drill.until_firing("NatsDown", "StartsErrorBudget")
            finally:
                drill.nats.thaw()


async def _put(http: httpx.AsyncClient, workflow: str, node: dict[str, Any]) -> bool:
    """Store a workflow of one node; return whether it is accepted."""
    answer = await http.put(f"/api/v1/workflows/{workflow}", json={"nodes": {"a": node}})
    return answer.is_success


async def _run(http: httpx.AsyncClient) -> str:
    answer = await http.post("/api/v1/workflows/drill/runs", json={})
    assert answer.is_success, answer.text
    return str(answer.json()["execution_id"])
