"""A whole system with and without authentication, and with one resource of each kind."""

import time
from collections.abc import Iterator

import jwt
import pytest

from harness.http.populated_api import ORGANIZATION, PopulatedApi, populate
from harness.http.secured_system import SCOPES, environment
from harness.http.token_issuer import SECRET
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.service import Service


@pytest.fixture(scope="module")
def system_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start NATS and a worker."""
    folder = tmp_path_factory.mktemp("described")
    with (
        NatsServer(folder / "nats") as server,
        Service("tailrace_worker", {"NATS_URL": server.url}, folder / "worker.log"),
    ):
        yield server


@pytest.fixture(scope="module")
def open_api(
    system_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PopulatedApi]:
    """An API without authentication."""
    headers = {"X-Organization-ID": ORGANIZATION}
    with ApiProcess(system_nats.url, tmp_path_factory.mktemp("open"), heartbeat="200ms") as api:
        yield populate(api.url, headers)


@pytest.fixture(scope="module")
def secured_api(
    system_nats: NatsServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PopulatedApi]:
    """An API with authentication."""
    claims = {
        "sub": "user",
        "org": ORGANIZATION,
        "scope": f"{SCOPES} operator",
        "exp": time.time() + 600,
    }
    headers = {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}
    settings = {
        name.removeprefix("TAILRACE_").lower(): value for name, value in environment().items()
    }
    with ApiProcess(system_nats.url, tmp_path_factory.mktemp("secured"), **settings) as api:
        yield populate(api.url, headers)
