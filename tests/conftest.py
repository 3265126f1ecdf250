"""The fixtures of all tests: NATS, a connection to it, a tenant, a log written by the test.

Conftest files in folders below add only what their folder alone needs.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client

from harness.generators.hand_written_log import HandWrittenLog
from harness.nats.cluster import NatsCluster
from harness.nats.container import NatsContainer, docker_is_running
from harness.nats.deployment import NatsDeployment
from harness.nats.server import NatsServer
from harness.nats.site import install
from harness.time_limit import end_waiting_tests
from tailrace_shared.nats.jetstream import JetStream
from tailrace_shared.settings import CommonSettings

_NATS_NODES: Final = {"1": [1], "3": [3], "both": [1, 3]}
"""The option ``--nats-nodes``, and the numbers of nodes it runs each test on."""
_RETENTION_S: Final = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the tests."""
    parser.addoption(
        "--kubernetes",
        action="store_true",
        help="run the tests on a Kubernetes cluster too; the first time it is built, for minutes",
    )
    parser.addoption(
        "--runs-per-second",
        type=float,
        default=5.0,
        help="how often a run starts on the Kubernetes cluster; forty clients for each",
    )
    parser.addoption(
        "--images",
        type=Path,
        help="folder with images of deploy/images/build.py for --kubernetes, instead of new ones",
    )
    parser.addoption(
        "--nats-nodes",
        choices=_NATS_NODES,
        default="1",
        help="run integration tests on one NATS server, on a cluster of three, or on both",
    )
    parser.addoption(
        "--retention-s",
        type=int,
        default=_RETENTION_S,
        help=f"the retention of the tests of the retention, in seconds ({_RETENTION_S})",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests whose NATS is shared, idle or isolated on each chosen number of nodes."""
    option = metafunc.config.getoption("--nats-nodes")
    if option == "1" or "nats_nodes" not in metafunc.fixturenames:
        return
    # A test that asks for `nats_server` itself stops it, or reads its files.
    is_single = "nats_server" in metafunc.fixturenames
    is_single = is_single or metafunc.definition.get_closest_marker("one_node") is not None
    nodes = [1] if is_single else _NATS_NODES[option]
    ids = [f"nats-nodes-{number}" for number in nodes]
    metafunc.parametrize("nats_nodes", nodes, ids=ids, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--nats-nodes 3``, leave out what runs on one server, or starts its own cluster.

    A run with ``--nats-nodes 1`` covers these tests.
    """
    if config.getoption("--nats-nodes") != "3":
        return
    chosen, left_out = list[pytest.Item](), list[pytest.Item]()
    for item in items:
        callspec = getattr(item, "callspec", None)
        is_clustered = callspec is not None and callspec.params.get("nats_nodes") == 3
        (chosen if is_clustered else left_out).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Iterator[None]:
    """Let the time limit of a test also end one whose event loop waits."""
    found = yield
    end_waiting_tests()
    return found


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores: tests wait about as much as they compute."""
    return min(os.cpu_count() or 1, 7) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the measurements of tests (``record_property``), also of those that passed."""
    measured = [
        (report.nodeid, what, figure)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for what, figure in report.user_properties
    ]
    if measured:
        terminalreporter.section("measured")
    for test, what, figure in measured:
        terminalreporter.line(f"{test.rpartition('/')[2].partition('.py')[0]}: {what}: {figure}")


# NATS


@pytest.fixture(scope="session")
def nats_nodes(request: pytest.FixtureRequest) -> int:
    """Return on how many NATS servers the test runs: 1 or 3 (see ``--nats-nodes``)."""
    default = 3 if request.config.getoption("--nats-nodes") == "3" else 1
    return int(getattr(request, "param", default))


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start a NATS server for this test alone, which the test may stop, kill and restart."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def nats_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsCluster]:
    """Start a cluster of three NATS servers for all tests of this process."""
    with NatsCluster(tmp_path_factory.mktemp("nats-cluster")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def shared_nats(
    nats_nodes: int, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsDeployment]:
    """Start NATS for all tests that use a subject prefix of their own.

    One node runs in a container where Docker runs, and as a process elsewhere.
    """
    if nats_nodes > 1:
        yield request.getfixturevalue("nats_cluster")
        return
    server = (
        NatsContainer()
        if docker_is_running()
        else NatsServer(tmp_path_factory.mktemp("shared-nats"))
    )
    with server:
        yield server


@pytest.fixture
def isolated_nats(nats_nodes: int, request: pytest.FixtureRequest) -> NatsDeployment:
    """Return NATS for an installation of this test: its own server, or the shared cluster.

    A cluster takes seconds to start, so tests share it and use a subject prefix of their own.
    """
    name = "nats_server" if nats_nodes == 1 else "nats_cluster"
    found: NatsDeployment = request.getfixturevalue(name)
    return found


@pytest.fixture(scope="session")
def idle_nats(
    nats_nodes: int, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NatsDeployment]:
    """Start NATS without workers, so that jobs stay where they are.

    Tests share it and use a tenant, or executions, of their own. In a cluster it has all streams
    already, three copies of each, which services accept.
    """
    if nats_nodes > 1:
        cluster: NatsCluster = request.getfixturevalue("nats_cluster")
        asyncio.run(install(CommonSettings(nats_url=cluster.url, nats_replicas=cluster.replicas)))
        yield cluster
        return
    with NatsServer(tmp_path_factory.mktemp("idle-nats")) as server:
        yield server


@pytest.fixture
def nats_url(idle_nats: NatsDeployment) -> str:
    """Return the server that `nats_client` connects to; folders may override it."""
    return idle_nats.url


@pytest.fixture
async def nats_client(nats_url: str) -> AsyncIterator[Client]:
    """Connect to NATS."""
    client = await nats.connect(nats_url.split(","))
    yield client
    await client.close()


@pytest.fixture
def jetstream(nats_client: Client) -> JetStream:
    """Return JetStream as the services use it."""
    return JetStream(nats_client)


# What tests write to it


@pytest.fixture
def tenant() -> str:
    """Return the id of a tenant that no other test uses."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
def log(nats_client: Client) -> HandWrittenLog:
    """Return the empty log of a new execution, which the test writes as a worker would."""
    return HandWrittenLog(nats_client)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Return the folder for the log files of processes that the test starts."""
    return tmp_path
