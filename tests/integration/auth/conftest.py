"""API processes that require tokens, on NATS without workers."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from harness.http.token_issuer import SECRET, Issuer, bearer, token
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess

AUTH = {"auth": "jwt", "auth_secret": SECRET}


@pytest.fixture(scope="session")
def secured(
    idle_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    """Start an API process that accepts HS256 tokens."""
    folder = tmp_path_factory.mktemp("secured")
    settings = {**AUTH, "retry": "20ms", "heartbeat": "200ms", "receive_timeout": "1s"}
    with ApiProcess(idle_nats.url, folder, **settings) as process:
        yield process


@pytest.fixture
async def http(secured: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client without a token."""
    async with httpx.AsyncClient(base_url=secured.url, timeout=60) as client:
        yield client


@pytest.fixture
async def acme(secured: ApiProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client with all scopes of the tenant ``acme``."""
    async with httpx.AsyncClient(
        base_url=secured.url, timeout=60, headers=bearer(token())
    ) as client:
        yield client


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Serve a key set (JWKS) over HTTP."""
    with Issuer().running() as running:
        yield running
