"""One cluster, and one release on it, for all tests of this folder."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from harness.generators.workflows import definition
from harness.kubernetes.chart import helm_program
from harness.kubernetes.cluster import Cluster
from harness.kubernetes.release import Release
from harness.kubernetes.traffic import HEAD, NODES, WORKFLOW, Row, Traffic
from harness.models.log_invariants import check
from harness.models.log_reading import Record
from harness.nats.current_reads import current_commits
from harness.processes.required_tools import skip_or_fail
from tailrace_shared.settings import CommonSettings
from tailrace_shared.stores.stores import Stores
from tailrace_shared.subjects import Subjects
from tools.kubernetes_tools import FOLDER

BUILD: Final = Path(__file__).parents[3] / "deploy/images/build.py"
OTHER_TAGS: Final = ("0.3.0-b", "0.3.0-c")
"""More names of the same images, so that an upgrade replaces the pods."""

VALUES: Final[dict[str, Any]] = {
    "auth": {"mode": "none", "allowUnauthenticated": True},
    "images": {"pullPolicy": "Never"},
    "nats": {
        "replicas": 1,
        "bundled": {"enabled": True, "servers": 3, "storageGiB": 1, "memoryMiB": 512, "cpu": "20m"},
    },
    "api": {"replicas": 3, "cpu": "20m", "config": {"TAILRACE_RETRY": "500ms"}},
    "workerDefaults": {
        "replicas": 2,
        "cpu": "20m",
        "memoryMiB": 512,
        "config": {"TAILRACE_ACK_WAIT": "5s"},
    },
}

TENANT: Final = "default"
Observe = Callable[..., Awaitable[Row]]
ObserveRelease = Callable[..., Awaitable[Row]]


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect these tests with ``--kubernetes`` only."""
    return None if config.getoption("--kubernetes") else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the time that pods take."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the archives of the images."""
    folder: Path | None = request.config.getoption("--images")
    if folder is None:
        folder = tmp_path_factory.mktemp("images")
        if shutil.which("mmdebstrap") is None or os.geteuid():
            skip_or_fail("mmdebstrap, run as root,", "apt-get install mmdebstrap")
        if sys.version_info[:2] != (3, 11):
            skip_or_fail("Python 3.11, which the images have,", "uv sync --python 3.11")
        subprocess.run([sys.executable, str(BUILD), str(folder)], check=True)
    return [folder / f"{name}.tar" for name in ("api", "worker", "nats")]


@pytest.fixture(scope="session")
def cluster(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster."""
    for program in ("containerd", "runc", "conntrack", "iptables"):
        if shutil.which(program) is None:
            skip_or_fail(program, f"apt-get install {program}")
    if not Path("/usr/lib/cni/bridge").exists():
        skip_or_fail("the bridge plugin", "apt-get install containernetworking-plugins")
    folder = tmp_path_factory.mktemp("kubernetes")
    with Cluster(folder, images, str(FOLDER / "kubectl")) as cluster:
        for tag in OTHER_TAGS:
            for name in ("api", "worker", "nats"):
                cluster.tag(f"tailrace/{name}:0.3.0", f"tailrace/{name}:{tag}")
        yield cluster


@pytest.fixture
def values() -> dict[str, Any]:
    """Return the values of the release."""
    return VALUES


@pytest.fixture(scope="session")
def release(cluster: Cluster) -> Release:
    """Install the chart: three API replicas, two workers, three NATS servers, one copy of data."""
    release = Release(cluster, helm_program(), "demo", VALUES)
    release.install()
    return release


@pytest.fixture
def observe_release(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> ObserveRelease:
    """Return what changes a release under load, and checks that nothing was lost.

    With the port of a ``gateway`` on this machine, clients use it instead of the Service.
    """
    rate = float(request.config.getoption("--runs-per-second"))

    async def run(
        release: Release,
        phase: str,
        change: Callable[[], Awaitable[Any]],
        *,
        has_previous_release: bool = False,
        gateway: int | None = None,
    ) -> Row:
        host, port = (release.address("api"), 80) if gateway is None else ("127.0.0.1", gateway)
        async with Traffic(
            host, port, runs_per_second=rate, has_previous_release=has_previous_release
        ) as traffic:
            await change()
            row = await traffic.finish(phase)
        sys.stderr.write(f"{row.markdown()} {dict(traffic.refusals)}\n")
        record_property("clients", f"{HEAD}\n{row.markdown()}\n{dict(traffic.refusals)}")
        assert (row.missing, row.twice) == (0, 0), row
        await _check_logs(release, traffic.executions)
        return row

    return run


@pytest.fixture
def observe(release: Release, observe_release: ObserveRelease) -> Observe:
    """Return what changes the release of all tests under load."""
    return functools.partial(observe_release, release)


async def _check_logs(release: Release, executions: list[str]) -> None:
    workflow = definition(NODES, id=WORKFLOW)
    async with release.jetstream() as jetstream:
        stores = Stores.over(jetstream, Subjects(CommonSettings().prefix), 1)
        for execution in executions:
            commits = await current_commits(stores.log, TENANT, execution)
            check([Record(workflow, commits)])
