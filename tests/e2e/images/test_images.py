"""The images are reproducible, and the compose file runs a workflow on them."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
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

pytestmark = pytest.mark.timeout(600)  # packages are fetched and three images are loaded


def _build(folder: Path, *images: str) -> list[Path]:
    if shutil.which("mmdebstrap") is None or os.geteuid():
        skip_or_fail("mmdebstrap, run as root,", "apt-get install mmdebstrap")
    command = [sys.executable, str(BUILD), str(folder), *images]
    return [Path(line) for line in subprocess.check_output(command, text=True).splitlines()]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.stem: path for path in _build(tmp_path_factory.mktemp("images"))}


def test_two_builds_are_identical(archives: dict[str, Path], tmp_path: Path):
    for again in _build(tmp_path, "api", "nats"):
        assert _digest(again) == _digest(archives[again.stem])


@pytest.mark.parametrize("name", SERVICES)
def test_images_run_as_an_unprivileged_user(archives: dict[str, Path], name: str):
    config = _config(archives[name])
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"]


class Composition:
    """The compose file, on a port of its own."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._environment = {**os.environ, "TAILRACE_PORT": str(port)}
        self._program = [shutil.which("docker-compose") or ""]
        if not self._program[0]:
            skip_or_fail("docker-compose", "apt-get install docker-compose")

    def run(self, *arguments: str) -> str:
        return subprocess.check_output(
            [*self._program, "-f", str(ROOT / "compose.yaml"), "-p", PROJECT, *arguments],
            env=self._environment,
            text=True,
            stderr=subprocess.DEVNULL,
        )

    def exit_codes(self) -> list[int]:
        """Return the exit codes of the containers that ended."""
        ids = self.run("ps", "-q").split()
        command = ["docker", "inspect", "-f", "{{.State.ExitCode}}", *ids]
        return [int(line) for line in subprocess.check_output(command, text=True).split()]


@pytest.fixture
def composition(archives: dict[str, Path]) -> Iterator[Composition]:
    if not docker_is_running():
        skip_or_fail("a Docker engine", "start containerd and dockerd")
    for archive in archives.values():
        subprocess.run(["docker", "load", "-q", "-i", str(archive)], check=True)
    composition = Composition(free_port())
    try:
        yield composition
    finally:
        composition.run("down", "--volumes")


async def test_compose_runs_a_workflow_and_stops_cleanly(composition: Composition):
    composition.run("up", "-d", "--no-build", "--scale", "worker=2")
    async with httpx.AsyncClient(base_url=composition.url, trust_env=False) as client:

        async def is_ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(is_ready, PATIENCE_S)
        nodes = {"a": {"type": "transform", "with": {"value": "${input.n + 1}"}}}
        stored = await client.put("/api/v1/workflows/sum", json={"id": "sum", "nodes": nodes})
        assert stored.is_success, stored.text
        started = await client.post("/api/v1/workflows/sum/runs", json={"input": {"n": 41}})
        assert started.is_success, started.text
        path = f"/api/v1/executions/{started.json()['execution_id']}"

        async def has_ended() -> bool:
            return bool((await client.get(path)).json()["status"] == "completed")

        await until(has_ended, PATIENCE_S)
        [step] = (await client.get(path)).json()["steps"]
        assert step["output"] == 42
    composition.run("stop")
    assert composition.exit_codes() == [0, 0, 0, 0]


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
