"""One ``tailrace up`` for the tests of this folder: NATS, three API replicas, two workers."""

from collections.abc import Iterator

import pytest

from harness.processes.tailrace_up import TailraceUp
from tailrace import Client


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """Start all services, as a user does."""
    folder = tmp_path_factory.mktemp("system")
    options = ("--workers", "2", "--api-replicas", "3", "--demo")
    environment = {"TAILRACE_ACK_WAIT": "2s", "TAILRACE_RETRY": "20ms"}
    with TailraceUp(folder, *options, environment=environment) as up:
        yield up.wait_ready()


@pytest.fixture
def client(system: TailraceUp) -> Iterator[Client]:
    """Return a Python client of the first replica."""
    with Client(system.url) as opened:
        yield opened
