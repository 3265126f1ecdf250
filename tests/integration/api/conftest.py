"""One API process, on NATS without workers; each test is a tenant of its own."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess


@pytest.fixture(scope="session")
def api(idle_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    """Start an API process with short intervals."""
    folder = tmp_path_factory.mktemp("api")
    with ApiProcess(idle_nats.url, folder, heartbeat="200ms", retry="20ms") as process:
        yield process


@pytest.fixture
async def http(api: ApiProcess, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client of the test's tenant."""
    async with httpx.AsyncClient(
        base_url=api.url, headers={"x-organization-id": tenant}, timeout=60
    ) as client:
        yield client


@pytest.fixture
async def version(http: httpx.AsyncClient, request: pytest.FixtureRequest) -> int:
    """Store the test module's ``FLOW`` as the workflow ``flow``; return its version."""
    put = await http.put("/api/v1/workflows/flow", json=request.module.FLOW)
    return int(put.json()["version"])
