"""Three API replicas on one NATS, with rings so small that readers fall out of them."""

from collections.abc import AsyncIterator, Iterator

import nats
import pytest
from nats.aio.client import Client

from harness.generators.log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.api import ApiProcess, api_replicas


@pytest.fixture(scope="session")
def stream_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server whose log is written by hand."""
    with NatsServer(tmp_path_factory.mktemp("stream-nats")) as server:
        yield server


@pytest.fixture(scope="session", params=[True, False], ids=["direct", "plain"])
def direct(request: pytest.FixtureRequest) -> bool:
    """Whether streams are written to their transports, or by plain ASGI."""
    return bool(request.param)


@pytest.fixture(scope="session")
def replicas(
    stream_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory, direct: bool
) -> Iterator[list[ApiProcess]]:
    """Three replicas that share nothing but NATS."""
    folder = tmp_path_factory.mktemp("replicas")
    settings = {"heartbeat": "250ms", "retry": "20ms", "ring_events": "16", "ring_bytes": "65536"}
    settings["direct_writes"] = str(direct).lower()
    with api_replicas(3, stream_nats.url, folder, **settings) as processes:
        yield processes


@pytest.fixture
def port(replicas: list[ApiProcess]) -> int:
    """The port of one of the replicas."""
    return replicas[0].port


@pytest.fixture
async def client(stream_nats: NatsServer) -> AsyncIterator[Client]:
    """A connection to the replicas' NATS."""
    connection = await nats.connect(stream_nats.url)
    yield connection
    await connection.close()


@pytest.fixture
def log(client: Client) -> HandWrittenLog:
    """The log of a new execution, still to be written."""
    return HandWrittenLog(client)
