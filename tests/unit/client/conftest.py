"""Fixtures of the client tests."""

from collections.abc import Iterator

import pytest

from harness.http.scripted_server import ScriptedServer


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """A server with scripted responses."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture(scope="session")
def session_server() -> Iterator[ScriptedServer]:
    """Like `server`, for property tests that set the script for each example."""
    scripted = ScriptedServer()
    yield scripted
    scripted.close()
