"""Two API replicas and a worker on one NATS; each test is its own tenant."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess, api_replicas
from harness.processes.service import Service
from harness.sse.tenant_client import TenantClient


@pytest.fixture(scope="module")
def dialect_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start a NATS server for the tests of one file."""
    with NatsServer(tmp_path_factory.mktemp("dialect-nats")) as server:
        yield server


@pytest.fixture(scope="module")
def replicas(
    dialect_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ApiProcess]]:
    """Start two replicas with short heartbeat intervals."""
    folder = tmp_path_factory.mktemp("replicas")
    settings = {"heartbeat": "250ms", "retry": "20ms", "max_stream_topics": "8"}
    with api_replicas(2, dialect_nats.url, folder, **settings) as processes:
        yield processes


@pytest.fixture(scope="module")
def services(
    dialect_nats: NatsServer,
    replicas: list[ApiProcess],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[ApiProcess]]:
    """Start a worker for the replicas."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with Service("tailrace_worker", {"NATS_URL": dialect_nats.url}, log):
        yield replicas


@pytest.fixture
async def stage(services: list[ApiProcess], tenant: str) -> AsyncIterator[TenantClient]:
    """Return a tenant that no other test uses."""
    async with httpx.AsyncClient(
        base_url=services[0].url, headers={"x-organization-id": tenant}, timeout=60
    ) as http:
        yield TenantClient(tenant, [replica.port for replica in services], http)
