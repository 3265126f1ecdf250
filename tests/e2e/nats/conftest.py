"""Fixtures of the tests on a NATS that freezes, fills up, or comes late."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harness.processes.api_and_worker import ApiAndWorker, OpenServices


@pytest.fixture
def services(tmp_path: Path) -> OpenServices:
    """Return a function that makes an API and a worker, to be started by the test."""

    @contextlib.asynccontextmanager
    async def make(nats_url: str, **settings: str) -> AsyncIterator[ApiAndWorker]:
        made = ApiAndWorker(nats_url, tmp_path, **settings)
        try:
            yield made
        finally:
            await made.close()

    return make
