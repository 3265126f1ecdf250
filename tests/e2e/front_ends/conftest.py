"""Two API replicas and a worker, with short intervals for reconnects and heartbeats."""

from collections.abc import Iterator

import pytest

from harness.http.secured_system import SecuredSystem, environment
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client

_SHORT_INTERVALS = {"TAILRACE_RETRY": "20ms", "TAILRACE_HEARTBEAT": "500ms"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """Start a system without authentication."""
    folder = tmp_path_factory.mktemp("open")
    with TailraceUp(folder, "--api-replicas", "2", environment=_SHORT_INTERVALS) as up:
        yield up.wait_ready()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredSystem]:
    """Start a system that requires tokens."""
    folder = tmp_path_factory.mktemp("secured")
    with TailraceUp(
        folder, "--api-replicas", "2", environment={**_SHORT_INTERVALS, **environment()}
    ) as up:
        yield SecuredSystem(up.wait_ready())


@pytest.fixture
def client_456(secured: SecuredSystem) -> Iterator[Client]:
    """Return a Python client of the organisation ``org-456``."""
    with Client(secured.up.url, secured.token("org-456")) as opened:
        yield opened
