"""An installation for each test: its own NATS, and the workers that the test starts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.nats.server import NatsServer
from harness.processes.installation import Installation, installation


@pytest.fixture
async def site(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation with no service running yet."""
    async with installation(nats_server, tmp_path) as opened:
        yield opened
