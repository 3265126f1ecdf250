"""One API process on a NATS of its own; every test is another tenant."""

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import httpx
import nats
import pytest
from nats.aio.client import Client

from harness.nats.server import NatsServer
from harness.processes.api import ApiProcess
from tailrace_shared.nats.jetstream import JetStream


@pytest.fixture(scope="session")
def api_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server whose jobs no worker takes."""
    with NatsServer(tmp_path_factory.mktemp("api-nats")) as server:
        yield server


@pytest.fixture(scope="session")
def api(api_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """An API process with small limits, so that they can be reached."""
    folder = tmp_path_factory.mktemp("api")
    with ApiProcess(api_nats.url, folder, heartbeat="200ms", retry="20ms") as process:
        yield process


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test uses."""
    return f"t-{uuid4().hex[:12]}"


@pytest.fixture
async def http(api: ApiProcess, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of this test's tenant."""
    async with httpx.AsyncClient(
        base_url=api.url, headers={"x-organization-id": tenant}, timeout=60
    ) as client:
        yield client


@pytest.fixture
async def nats_client(api_nats: NatsServer) -> AsyncIterator[Client]:
    """A connection to the API's NATS."""
    client = await nats.connect(api_nats.url)
    yield client
    await client.close()


@pytest.fixture
def jetstream(nats_client: Client) -> JetStream:
    """JetStream as the API sees it."""
    return JetStream(nats_client)
