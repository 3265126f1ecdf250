"""Fixtures that every test may use."""

from collections.abc import Iterator

import pytest
from harness.nats import NatsServer


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server for one test alone, which may kill and restart it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server for all tests that keep to a subject prefix or tenant of their own."""
    with NatsServer(tmp_path_factory.mktemp("shared-nats")) as server:
        yield server
