"""API processes that ask for tokens, on a NATS of their own; no worker takes their jobs."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import nats
import pytest
from nats.aio.client import Client

from harness.http.token_issuer import SECRET, Issuer, bearer, token
from harness.nats.server import NatsServer
from harness.processes.api import ApiProcess
from tailrace_shared.nats.jetstream import JetStream

AUTH = {"auth": "jwt", "auth_secret": SECRET}


@pytest.fixture(scope="session")
def auth_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server whose jobs no worker takes."""
    with NatsServer(tmp_path_factory.mktemp("auth-nats")) as server:
        yield server


@pytest.fixture(scope="session")
def secured(
    auth_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    """An API process that takes tokens of HS256."""
    folder = tmp_path_factory.mktemp("secured")
    settings = {**AUTH, "retry": "20ms", "heartbeat": "200ms", "receive_timeout": "1s"}
    with ApiProcess(auth_nats.url, folder, **settings) as process:
        yield process


@pytest.fixture
async def http(secured: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client without a token."""
    async with httpx.AsyncClient(base_url=secured.url, timeout=60) as client:
        yield client


@pytest.fixture
async def acme(secured: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that may do everything for the tenant ``acme``."""
    async with httpx.AsyncClient(
        base_url=secured.url, timeout=60, headers=bearer(token())
    ) as client:
        yield client


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """A key set over HTTP."""
    with Issuer().running() as running:
        yield running


@pytest.fixture
async def nats_client(auth_nats: NatsServer) -> AsyncIterator[Client]:
    """A connection to the API's NATS."""
    client = await nats.connect(auth_nats.url)
    yield client
    await client.close()


@pytest.fixture
def jetstream(nats_client: Client) -> JetStream:
    """JetStream as the API sees it."""
    return JetStream(nats_client)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where processes of one test write their logs."""
    return tmp_path
