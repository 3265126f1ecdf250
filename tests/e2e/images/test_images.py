"""The images are reproducible, and the compose files run workflows on them."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from harness.nats.container import docker_is_running
from harness.processes.polling import until
from harness.processes.ports import free_port
from harness.processes.required_tools import skip_or_fail

ROOT = Path(__file__).parents[3]
BUILD = ROOT / "deploy/images/build.py"
PROJECT = "tailrace-test"
SERVICES = ("nats", "api", "worker")
PATIENCE_S = 180.0
STREAMS = 1_000
AT_ONCE = 100

pytestmark = pytest.mark.timeout(600)  # packages are fetched and three images are loaded


def _build(folder: Path, *images: str) -> list[Path]:
    if shutil.which("mmdebstrap") is None or os.geteuid():
        skip_or_fail("mmdebstrap, run as root,", "apt-get install mmdebstrap")
    if sys.version_info[:2] != (3, 11):
        skip_or_fail("Python 3.11, which the images have,", "uv sync --python 3.11")
    command = [sys.executable, str(BUILD), str(folder), *images]
    return [Path(line) for line in subprocess.check_output(command, text=True).splitlines()]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.stem: path for path in _build(tmp_path_factory.mktemp("images"))}


def test_two_builds_are_identical(archives: dict[str, Path], tmp_path: Path):
    for again in _build(tmp_path):
        assert _digest(again) == _digest(archives[again.stem])


@pytest.mark.parametrize("name", SERVICES)
def test_images_run_as_an_unprivileged_user(archives: dict[str, Path], name: str):
    config = _config(archives[name])
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"]


class Composition:
    """A compose file, on ports of its own.

    Args:
        file: its name.

    Attributes:
        port: the port of the API, or of its first replica.
        url: its URL.
        second_url: the URL of the second replica, if the file has one.
    """

    def __init__(self, file: str) -> None:
        self.port, second = free_port(), free_port()
        self.url, self.second_url = (f"http://127.0.0.1:{each}" for each in (self.port, second))
        ports = {"TAILRACE_PORT": str(self.port), "TAILRACE_SECOND_PORT": str(second)}
        self._environment = {**os.environ, **ports}
        self._file = ROOT / file
        self._program = [shutil.which("docker-compose") or ""]
        if not self._program[0]:
            skip_or_fail("docker-compose", "apt-get install docker-compose")

    def run(self, *arguments: str) -> str:
        return subprocess.check_output(
            [*self._program, "-f", str(self._file), "-p", PROJECT, *arguments],
            env=self._environment,
            text=True,
            stderr=subprocess.DEVNULL,
        )

    async def start(self, *arguments: str) -> None:
        """Start services; return when the API is ready."""
        self.run("up", "-d", "--no-build", *arguments)
        await _is_ready(self.url)

    def kill_first(self, service: str) -> None:
        """Kill one of the containers of a service."""
        first, *_ = self.run("ps", "-q", service).split()
        subprocess.run(["docker", "kill", first], check=True, stdout=subprocess.DEVNULL)

    def exit_codes(self, *services: str) -> list[int]:
        """Return the exit codes of the containers that ended."""
        ids = self.run("ps", "-q", *services).split()
        command = ["docker", "inspect", "-f", "{{.State.ExitCode}}", *ids]
        return [int(line) for line in subprocess.check_output(command, text=True).split()]


@contextlib.contextmanager
def _composition(archives: dict[str, Path], file: str) -> Iterator[Composition]:
    if not docker_is_running():
        skip_or_fail("a Docker engine", "start containerd and dockerd")
    for archive in archives.values():
        subprocess.run(["docker", "load", "-q", "-i", str(archive)], check=True)
    composition = Composition(file)
    try:
        yield composition
    finally:
        composition.run("down", "--volumes")


@pytest.fixture
def composition(archives: dict[str, Path]) -> Iterator[Composition]:
    with _composition(archives, "compose.yaml") as composition:
        yield composition


@pytest.fixture
def cluster(archives: dict[str, Path]) -> Iterator[Composition]:
    with _composition(archives, "compose.cluster.yaml") as composition:
        yield composition


async def _is_ready(url: str) -> None:
    """Wait until a replica of the API is ready."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:

        async def is_ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_ready, PATIENCE_S)


async def _run(url: str, nodes: dict[str, Any], number: int) -> str:
    """Store a workflow and start a run of it; return the path of the run."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        stored = await client.put("/api/v1/workflows/sum", json={"id": "sum", "nodes": nodes})
        assert stored.is_success, stored.text
        started = await client.post("/api/v1/workflows/sum/runs", json={"input": {"n": number}})
        assert started.is_success, started.text
        return f"/api/v1/executions/{started.json()['execution_id']}"


async def _completed(url: str, path: str) -> dict[str, Any]:
    """Wait until a run has completed; return its document."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        found: dict[str, Any] = {}

        async def has_completed() -> bool:
            found.update((await client.get(path)).json())
            return bool(found.get("status") == "completed")

        await until(has_completed, PATIENCE_S)
        return found


async def test_compose_runs_a_workflow_and_stops_cleanly(composition: Composition):
    await composition.start("--scale", "worker=2")
    nodes = {"a": {"type": "transform", "with": {"value": "${input.n + 1}"}}}
    [step] = (await _completed(composition.url, await _run(composition.url, nodes, 41)))["steps"]
    assert step["output"] == 42
    composition.run("stop")
    assert composition.exit_codes() == [0, 0, 0, 0]


async def test_compose_of_a_cluster_goes_on_without_one_of_each(cluster: Composition):
    """A NATS server, the API replica that took the start, and a worker are killed."""
    await cluster.start()
    await _is_ready(cluster.second_url)
    nodes = {
        "wait": {"type": "await", "with": {"triggers": ["orders.paid"]}},
        "a": {"type": "transform", "needs": ["wait"], "with": {"value": "${input.n + 1}"}},
    }
    path = await _run(cluster.url, nodes, 41)
    async with httpx.AsyncClient(base_url=cluster.url, trust_env=False, timeout=60) as client:

        async def waits() -> bool:
            return bool((await client.get("/api/v1/waiting")).json()["waiting"])

        await until(waits, PATIENCE_S)
    for service in ("nats-1", "api-0", "worker"):
        cluster.kill_first(service)
    async with httpx.AsyncClient(
        base_url=cluster.second_url, trust_env=False, timeout=60
    ) as client:

        async def is_taken() -> bool:
            sent = await client.post("/api/v1/triggers/orders.paid", json={})
            return sent.is_success

        await until(is_taken, PATIENCE_S)
    steps = (await _completed(cluster.second_url, path))["steps"]
    assert [step["output"] for step in steps if step["node_id"] == "a"] == [42]


async def test_the_api_ends_a_thousand_streams_within_its_grace(composition: Composition):
    """It is the first process of its container, and Docker kills it after the grace."""
    await composition.start("nats", "api")
    command = 'import os; print(open("/proc/1/cmdline").read().replace("\\0", " "))'
    first = composition.run("exec", "-T", "api", "python3", "-c", command)
    assert first.split() == ["python3", "-m", "tailrace_api"]
    streams: list[tuple[StreamReader, StreamWriter]] = []
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(0, STREAMS, AT_ONCE):
            streams += await asyncio.gather(
                *(_open_stream(composition.port) for _ in range(AT_ONCE))
            )
        stopping = asyncio.create_task(asyncio.to_thread(composition.run, "stop", "api"))
        for reader, writer in streams:
            rest = await reader.read()
            assert b"retry: " in rest
            assert rest.endswith(b"0\r\n\r\n"), rest[-200:]
            writer.close()
        await stopping
    assert composition.exit_codes("api") == [0]


async def _open_stream(port: int) -> tuple[StreamReader, StreamWriter]:
    """Open a stream and read its first event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /api/v1/sse/stream?topics=feed HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    first = await reader.readuntil(b"event: feed\n")
    assert first.startswith(b"HTTP/1.1 200 "), first
    return reader, writer


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _config(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as image:
        manifest = image.extractfile("manifest.json")
        assert manifest is not None
        [described] = msgspec.json.decode(manifest.read())
        config = image.extractfile(described["Config"])
        assert config is not None
        decoded: dict[str, Any] = msgspec.json.decode(config.read())
    return dict(decoded["config"])
