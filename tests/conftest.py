"""Fixtures that every test may use."""

import os
from collections.abc import Iterator

import pytest

from harness.nats.container import AnyNats, NatsContainer, docker_is_running
from harness.nats.server import NatsServer


def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are cores: tests wait about as much as they compute."""
    return min(os.cpu_count() or 1, 7) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured, also where they passed."""
    measured = [
        (report.nodeid, what, figure)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for what, figure in report.user_properties
    ]
    if measured:
        terminalreporter.section("measured")
    for test, what, figure in measured:
        terminalreporter.line(f"{test.rpartition('/')[2].partition('.py')[0]}: {what}: {figure}")


@pytest.fixture
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A NATS server for one test alone, which may kill and restart it."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyNats]:
    """A NATS server for all tests that keep to a subject prefix or tenant of their own.

    It runs in a container where Docker runs, as a process elsewhere.
    """
    server = (
        NatsContainer()
        if docker_is_running()
        else NatsServer(tmp_path_factory.mktemp("shared-nats"))
    )
    with server:
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let CI insist on the container path."""
    parser.addoption(
        "--require-docker",
        action="store_true",
        default=bool(os.environ.get("CI")),
        help="fail where no Docker engine runs (the default where CI is set)",
    )
