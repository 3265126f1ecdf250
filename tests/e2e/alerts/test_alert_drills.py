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

from harness.nats.cluster import NatsCluster
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.polling import until
from harness.processes.ports import free_port
from harness.processes.prometheus import Prometheus, compressed
from harness.processes.service import Service
from harness.sse.client import SseClient
from tailrace_shared.nats.jetstream import JetStream, connect
from tailrace_shared.nats.jobs import EXECUTIONS_QUEUE, advance_job
from tailrace_shared.nats.topology import IDEMPOTENCY
from tailrace_shared.settings import CommonSettings
from tailrace_shared.subjects import Subjects
from tools.observability import rules

COMPRESSION = 60
MAX_STREAMS = 2
PATIENCE_S = 240.0
SLOTS = 8
STEPS = 200
"""More steps of half a second than a drill takes."""
STALL_S = 0.7
"""Longer than the limit of `LoopStalls`."""
DELAY_S = 1.6
"""Longer than the objective for deliveries, and too short to lose the connection to NATS."""

pytestmark = pytest.mark.timeout(900)


class Drill:
    """An installation, its load, and the Prometheus that watches it."""

    def __init__(self, folder: Path, nats: NatsServer | NatsCluster, **settings: str) -> None:
        self._folder = folder
        self.nats_url = nats.url
        self.api = ApiProcess(nats.url, folder, retry="100ms", **settings)
        self._worker_ports = [free_port(), free_port()]
        # Nothing listens on the last one.
        ports = [self.api.port, *self._worker_ports, free_port()]
        self.prometheus = Prometheus(folder / "prometheus", ports, compressed(rules(), COMPRESSION))

    def worker(self, number: int = 0, *, slots: int = 1, version: str = "") -> Service:
        """Return a worker, not started yet.

        Args:
            number: its number in the installation, 0 or 1.
            slots: its `TAILRACE_WORKER_THREADS`.
            version: the version that its package claims to have; empty for that of this release.
        """
        environment = {
            "NATS_URL": self.nats_url,
            "TAILRACE_METRICS_PORT": str(self._worker_ports[number]),
            "TAILRACE_WORKER_THREADS": str(slots),
            "TAILRACE_ACK_WAIT": "5s",
            "TAILRACE_SWEEP_INTERVAL": "2s",
            "TAILRACE_NODES": "slow_nodes",
            "PYTHONPATH": f"{Path(__file__).parent}:{self._distribution(version)}",
        }
        return Service("tailrace_worker", environment, self._folder / f"worker-{number}.log")

    def _distribution(self, version: str) -> Path:
        """Return a folder with the metadata of a package of some version, or with nothing."""
        folder = self._folder / f"version-{version}"
        if version:
            metadata = folder / f"tailrace_shared-{version}.dist-info" / "METADATA"
            metadata.parent.mkdir(parents=True, exist_ok=True)
            metadata.write_text(
                f"Metadata-Version: 2.1\nName: tailrace-shared\nVersion: {version}\n"
            )
        return folder

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


@contextlib.contextmanager
def drill_on(folder: Path, nats: NatsServer | NatsCluster, **settings: str) -> Iterator[Drill]:
    """Run an API and a Prometheus on a NATS that runs."""
    drill = Drill(folder, nats, **settings)
    with drill.api, drill.prometheus:
        yield drill


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    with NatsServer(tmp_path / "nats") as server:
        yield server


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


@contextlib.asynccontextmanager
async def stuttering(
    process: Service | NatsServer, seconds: float, pause_s: float
) -> AsyncIterator[None]:
    """Suspend a process again and again."""

    async def suspend() -> None:
        process.freeze()
        try:
            await asyncio.sleep(seconds)
        finally:
            process.thaw()

    async with repeated(suspend, pause_s):
        yield


async def test_faults_make_their_alerts_fire(tmp_path: Path, nats: NatsServer):
    with drill_on(tmp_path, nats, max_streams=str(MAX_STREAMS)) as drill:
        await _refused_and_idle(drill, nats)


async def _refused_and_idle(drill: Drill, nats: NatsServer) -> None:
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
            nats.freeze()
            try:
                async with repeated(start, 0.1):
                    await drill.until_firing("NatsDown", "StartsErrorBudget")
            finally:
                nats.thaw()


async def test_lost_and_waiting_work_makes_its_alerts_fire(tmp_path: Path, nats: NatsServer):
    """The alerts that a worker cannot raise by itself: it is away, or has more than it can do."""
    with drill_on(tmp_path, nats) as drill:
        async with await connect(CommonSettings(nats_url=nats.url), "drill") as client:
            await _break_work(JetStream(client))
        async with httpx.AsyncClient(base_url=drill.api.url, timeout=60) as http:
            with drill.worker(0, slots=SLOTS, version="99.0.0") as first:
                await until(lambda: _put(http, "drill", {"type": "held"}), PATIENCE_S)
                for _ in range(2 * SLOTS):
                    await _run(http)
                await drill.until_firing(
                    "DeadLetters",
                    "StoreFull",
                    "ExecutionsOverdue",
                    "MixedVersions",
                    "QueueWithoutWorkers",
                )
                with drill.worker(1, slots=4 * SLOTS):
                    first.kill()
                    await drill.until_firing("CrashRetries")


async def _break_work(jetstream: JetStream) -> None:
    """Publish a job that is none and one that no worker consumes, and fill a small bucket."""
    subjects = Subjects("tr")
    await jetstream.publish(subjects.job(EXECUTIONS_QUEUE), b"not a job")
    await jetstream.publish(subjects.job("node.mail"), advance_job("t", "e"))
    bucket = subjects.stream(IDEMPOTENCY)
    info = await jetstream.api(f"STREAM.INFO.KV_{bucket}")
    await jetstream.api(f"STREAM.UPDATE.KV_{bucket}", {**info["config"], "max_bytes": 10_000})
    await jetstream.publish(f"$KV.{bucket}.drill", bytes(9_000))


async def test_stalls_make_their_alerts_fire(tmp_path: Path, nats: NatsServer):
    """Processes that stop for moments: the event loop of an API, and NATS."""
    with drill_on(tmp_path, nats) as drill, drill.worker(slots=SLOTS):
        async with httpx.AsyncClient(base_url=drill.api.url, timeout=60) as http:
            chain = {
                f"n{number}": {"type": "slow", "needs": [f"n{number - 1}"] if number else []}
                for number in range(STEPS)
            }
            await until(lambda: _put_all(http, "drill", chain), PATIENCE_S)
            runs = [await _run(http) for _ in range(SLOTS)]
            path = f"/api/v1/sse/executions/{runs[0]}/stream"
            async with SseClient(drill.api.port, path) as stream:
                reading = asyncio.create_task(stream.all())
                async with stuttering(drill.api, DELAY_S, DELAY_S):
                    await drill.until_firing("DeliveryErrorBudget")
                async with stuttering(drill.api, STALL_S, STALL_S):
                    await drill.until_firing("LoopStalls")
                async with stuttering(nats, DELAY_S, STALL_S):
                    await drill.until_firing("CommitsSlow")
                reading.cancel()


async def test_a_server_that_is_away_makes_its_alert_fire(tmp_path: Path):
    with (
        NatsCluster(tmp_path / "nats") as cluster,
        drill_on(tmp_path, cluster, nats_replicas=str(cluster.replicas)) as drill,
    ):
        cluster.freeze(0)
        try:
            await drill.until_firing("NotReplicated")
        finally:
            cluster.thaw(0)


async def _put(http: httpx.AsyncClient, workflow: str, node: dict[str, Any]) -> bool:
    """Store a workflow of one node; return whether it is accepted."""
    return await _put_all(http, workflow, {"a": node})


async def _put_all(http: httpx.AsyncClient, workflow: str, nodes: dict[str, Any]) -> bool:
    answer = await http.put(f"/api/v1/workflows/{workflow}", json={"nodes": nodes})
    return answer.is_success


async def _run(http: httpx.AsyncClient) -> str:
    answer = await http.post("/api/v1/workflows/drill/runs", json={})
    assert answer.is_success, answer.text
    return str(answer.json()["execution_id"])
