"""Two replicas and a worker; clients come back at once, and hearts beat quickly."""

from collections.abc import Iterator

import pytest

from harness.http.secured_system import SecuredSystem, environment
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client

_QUICKLY = {"TAILRACE_RETRY": "20ms", "TAILRACE_HEARTBEAT": "500ms"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """A system that lets everybody on this machine in."""
    folder = tmp_path_factory.mktemp("open")
    with TailraceUp(folder, "--api-replicas", "2", environment=_QUICKLY) as up:
        yield up.wait_ready()


@pytest.fixture
def client(system: TailraceUp) -> Iterator[Client]:
    """The Python client, which plays everybody but the front end."""
    with Client(system.url) as opened:
        yield opened


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredSystem]:
    """A system that asks for tokens."""
    folder = tmp_path_factory.mktemp("secured")
    with TailraceUp(folder, "--api-replicas", "2", environment={**_QUICKLY, **environment()}) as up:
        yield SecuredSystem(up.wait_ready())


@pytest.fixture
def client_456(secured: SecuredSystem) -> Iterator[Client]:
    """The Python client of the organisation ``org-456``."""
    with Client(secured.up.url, secured.token("org-456")) as opened:
        yield opened
