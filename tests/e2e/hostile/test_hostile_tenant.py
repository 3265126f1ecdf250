"""One tenant attacks; another one works on as if nothing happened."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final

import httpx
import pytest

from harness.campaigns.attacks import ATTACKS
from harness.nats.server import NatsServer
from harness.processes.api_and_worker import ApiAndWorker
from harness.processes.polling import until
from harness.processes.process_usage import cpu_seconds, memory_bytes

FLOW = {
    "nodes": {
        "a": {"type": "transform", "with": {"value": "${input.n + 1}"}},
        "ask": {"type": "await", "needs": ["a"]},
        "b": {"type": "log", "with": {"message": "done"}, "needs": ["ask"]},
    }
}
# The bounds hold on two idle cores. On a slower machine the other tenant may be this many times
# slower than beside processes that have nothing to do with the system.
RESPONSE_S, RUN_S, PROBE_S = 1.0, 2.0, 0.1
SLOWER: Final = 10
MEMORY_BYTES: Final = 512 * 1024 * 1024
IDLE_CPU: Final = 0.25
_PAUSE_S: Final = 0.5


class Bystander:
    """The other tenant: starts, approves, streams and lists, once a second.

    Attributes:
        slowest: the longest response, run and ``/healthz`` that were taken, in seconds.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._responses: list[float] = []
        self._runs: list[float] = []
        self._probes: list[float] = []
        self.slowest = (0.0, 0.0, 0.0)

    def take_slowest(self) -> tuple[float, float, float]:
        """Return the longest response, run and ``/healthz`` since the last call, in seconds."""
        taken = (self._responses, self._runs, self._probes)
        self.slowest = (max(taken[0]), max(taken[1]), max(taken[2], default=0.0))
        for each in taken:
            each.clear()
        return self.slowest

    async def work(self) -> None:
        """Do each thing once."""
        began = time.monotonic()
        answer = await self._timed(
            self._http.post("/api/v1/workflows/flow/runs", json={"input": {"n": 1}})
        )
        run = answer.json()["execution_id"]
        await self._until_waiting(run)
        await self._timed(self._http.post(f"/api/v1/executions/{run}/resume", json={}))
        await self._read_stream(run)
        self._runs.append(time.monotonic() - began)
        await self._timed(self._http.get("/api/v1/executions"))

    @contextlib.asynccontextmanager
    async def probing(self) -> AsyncIterator[None]:
        """Ask for ``/healthz`` ten times a second."""
        probing = asyncio.create_task(self._probe())
        yield
        probing.cancel()

    async def _probe(self) -> None:
        while True:
            began = time.monotonic()
            (await self._http.get("/healthz")).raise_for_status()
            self._probes.append(time.monotonic() - began)
            await asyncio.sleep(0.1)

    async def _until_waiting(self, run: str) -> None:
        url = f"/api/v1/sse/executions/{run}/stream"
        async with self._http.stream("GET", url) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("event: step:waiting"):
                    return

    async def _read_stream(self, run: str) -> None:
        """Read the stream to its end, which is the end of the run."""
        url = f"/api/v1/sse/executions/{run}/stream"
        async with self._http.stream("GET", url) as stream:
            lines = [line async for line in stream.aiter_lines()]
        assert "event: execution:completed" in lines

    async def _timed(self, request: Awaitable[httpx.Response]) -> httpx.Response:
        began = time.monotonic()
        answer = await request
        self._responses.append(time.monotonic() - began)
        return answer.raise_for_status()


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[ApiAndWorker]:
    """An API and a worker with limits that the attacks reach."""
    with NatsServer(tmp_path / "nats") as nats:
        services = ApiAndWorker(nats.url, tmp_path, max_descendants="200", max_live_runs="500")
        await services.start()
        await services.until_ready()
        yield services
        await services.close()


@contextlib.asynccontextmanager
async def busy_machine() -> AsyncIterator[None]:
    """Keep two cores busy."""
    spin = (sys.executable, "-c", "while True: pass")
    processes = [await asyncio.create_subprocess_exec(*spin) for _ in range(2)]
    yield
    for process in processes:
        process.kill()
        await process.wait()


class Attacker:
    """A process of its own, so that its work does not delay the other tenant's client."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Start it; return when it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "harness.campaigns.attacks", self._url),
            cwd=Path(__file__).parents[2],
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        await self._line()

    async def attack(self, name: str) -> None:
        """Make an attack; return at its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n".encode())
        await self._line()

    async def _line(self) -> None:
        assert self._process.stdout is not None
        assert await self._process.stdout.readline()

    async def stop(self) -> None:
        """End the process."""
        self._process.kill()
        await self._process.wait()


@pytest.fixture
async def attacker(system: ApiAndWorker) -> AsyncIterator[Attacker]:
    """The hostile tenant."""
    opened = Attacker(system.api.url)
    await opened.start()
    yield opened
    await opened.stop()


async def test_a_hostile_tenant_slows_no_other_tenant(system: ApiAndWorker, attacker: Attacker):
    """Every attack, one after the other, without a pause between them."""
    headers = {"x-organization-id": "other"}
    async with httpx.AsyncClient(base_url=system.api.url, timeout=60, headers=headers) as http:
        (await http.put("/api/v1/workflows/flow", json=FLOW)).raise_for_status()
        calm, other = Bystander(http), Bystander(http)
        async with calm.probing(), busy_machine():
            for _ in range(8):
                await calm.work()
        slowest: dict[str, tuple[float, ...]] = {}
        async with other.probing():
            for attack in ATTACKS:
                attacking = asyncio.create_task(attacker.attack(attack.__name__))
                while not attacking.done():
                    await other.work()
                    await asyncio.wait([attacking], timeout=_PAUSE_S)
                slowest[attack.__name__] = other.take_slowest()
        calm.take_slowest()

        response, run, probe = map(max, zip(*slowest.values(), strict=True))
        calm_response, calm_run, calm_probe = calm.slowest
        assert response < max(RESPONSE_S, SLOWER * calm_response), slowest
        assert run < max(RUN_S, SLOWER * calm_run), slowest
        assert probe < max(PROBE_S, SLOWER * calm_probe), slowest
        for service in (system.api, system.worker):
            assert memory_bytes(service.pid) < MEMORY_BYTES
        await until(lambda: _is_idle(system))


async def _is_idle(system: ApiAndWorker) -> bool:
    """Return whether both services use little CPU time for a second."""
    pids = [system.api.pid, system.worker.pid]
    before = sum(map(cpu_seconds, pids))
    await asyncio.sleep(1)
    return sum(map(cpu_seconds, pids)) - before < IDLE_CPU
