"""Whole systems: one with the examples, one that requires tokens."""

from collections.abc import Iterator

import httpx
import pytest

from harness.http.secured_system import SecuredSystem, environment
from harness.processes.required_tools import skip_or_fail
from harness.processes.tailrace_up import TailraceUp


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredSystem]:
    """Start a system that requires tokens."""
    folder = tmp_path_factory.mktemp("secured")
    with TailraceUp(folder, "--workers", "1", environment=environment()) as system:
        _has_dashboard(system)
        yield SecuredSystem(system)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """Start a system with the examples."""
    with TailraceUp(tmp_path_factory.mktemp("dashboard"), "--demo") as system:
        _has_dashboard(system)
        yield system


def _has_dashboard(system: TailraceUp) -> None:
    """Wait until a system is ready. Without a built dashboard, skip, or fail in CI."""
    page = httpx.get(system.wait_ready().url, headers={"accept": "text/html"})
    if "was not built" in page.text:
        skip_or_fail("the dashboard", "npm ci --prefix clients/web, then npm run dashboard")
