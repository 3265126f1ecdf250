"""Three API replicas, with rings so small that slow readers fall out of them."""

from collections.abc import Iterator

import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, api_replicas


@pytest.fixture(scope="session", params=[True, False], ids=["direct", "plain"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Return whether streams write to their transport directly, or through plain ASGI."""
    return bool(request.param)


@pytest.fixture(scope="session")
def replicas(
    idle_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory, direct: bool
) -> Iterator[list[ApiProcess]]:
    """Start three replicas that share only NATS."""
    folder = tmp_path_factory.mktemp("replicas")
    settings = {"heartbeat": "250ms", "retry": "20ms", "ring_events": "16", "ring_bytes": "65536"}
    settings["direct_writes"] = str(direct).lower()
    with api_replicas(3, idle_nats.url, folder, **settings) as processes:
        yield processes


@pytest.fixture
def port(replicas: list[ApiProcess]) -> int:
    """Return the port of the first replica."""
    return replicas[0].port
