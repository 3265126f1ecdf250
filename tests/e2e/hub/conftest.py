"""Thousands of clients: the log is written by hand, the clients are in processes of their own."""

from collections.abc import AsyncIterator, Iterator

import nats
import pytest
from nats.aio.client import Client

from harness.generators.log import HandWrittenLog
from harness.nats.server import NatsServer
from harness.processes.open_files import TooFewFilesError, allow_open_files
from harness.processes.required_tools import absent


@pytest.fixture(autouse=True)
def _many_open_files() -> None:
    """Servers and crowds inherit the limit."""
    try:
        allow_open_files(12_000)
    except TooFewFilesError as error:
        absent("a limit of open files that is high enough", str(error))


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server for one test alone, which tells what it has been asked."""
    with NatsServer(tmp_path_factory.mktemp("nats"), monitored=True) as server:
        yield server


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A connection to a NATS server that nothing else uses."""
    connection = await nats.connect(nats_server.url)
    yield connection
    await connection.close()


@pytest.fixture
def log(client: Client) -> HandWrittenLog:
    """The log of a new execution, still to be written."""
    return HandWrittenLog(client)
