"""An installation for each test, without services: the test starts the workers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.nats.deployment import NatsDeployment
from harness.processes.installation import Installation, installation


@pytest.fixture(autouse=True)
def node_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers import the node functions beside this file."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
async def site(isolated_nats: NatsDeployment, tmp_path: Path) -> AsyncIterator[Installation]:
    """Open an installation on NATS; services that the test starts are killed at its end."""
    async with installation(isolated_nats, tmp_path) as opened:
        yield opened
