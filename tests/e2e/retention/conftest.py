"""One ``tailrace up`` whose executions are kept for a few seconds after their end."""

from collections.abc import Iterator

import pytest

from harness.processes.tailrace_up import TailraceUp
from tailrace import Client


@pytest.fixture(scope="session")
def retention(request: pytest.FixtureRequest) -> int:
    """Return how long executions are kept after their end, in seconds.

    Each test waits for one to three retentions, one after the other, so it is short in CI. `just
    test-retention` takes a longer one.
    """
    return int(request.config.getoption("--retention-s"))


@pytest.fixture(scope="module")
def system(retention: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """Start all services; sweeps come once a second."""
    folder = tmp_path_factory.mktemp("system")
    environment = {
        "TAILRACE_EVENTS_MAX_AGE": f"{retention}s",
        "TAILRACE_SWEEP_INTERVAL": "1s",
    }
    with TailraceUp(folder, "--api-replicas", "2", environment=environment) as up:
        yield up.wait_ready()


@pytest.fixture
def client(system: TailraceUp) -> Iterator[Client]:
    """Return a Python client of the first replica."""
    with Client(system.url) as opened:
        yield opened
