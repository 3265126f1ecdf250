"""Thousands of clients, in processes of their own, read a log that the test writes."""

from collections.abc import Iterator

import pytest

from harness.nats.server import NatsServer
from harness.processes.open_files import TooFewFilesError, allow_open_files
from harness.processes.required_tools import skip_or_fail


@pytest.fixture(autouse=True)
def _many_open_files() -> None:
    """Raise the limit of open files, which servers and client processes inherit."""
    try:
        allow_open_files(12_000)
    except TooFewFilesError as error:
        skip_or_fail("a limit of open files that is high enough", str(error))


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """Start a NATS server for this test alone, with its monitoring port open."""
    with NatsServer(tmp_path_factory.mktemp("nats"), monitored=True) as server:
        yield server


@pytest.fixture
def nats_url(nats_server: NatsServer) -> str:
    """Return the server that `nats_client` connects to."""
    return nats_server.url
