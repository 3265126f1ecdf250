"""A whole system with the examples."""

from collections.abc import Iterator

import httpx
import pytest

from harness.processes.required_tools import skip_or_fail
from harness.processes.tailrace_up import TailraceUp


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TailraceUp]:
    """Start a system with the examples. Without a built dashboard, skip, or fail in CI."""
    with TailraceUp(tmp_path_factory.mktemp("dashboard"), "--demo") as system:
        system.wait_ready()
        page = httpx.get(system.url, headers={"accept": "text/html"})
        if "was not built" in page.text:
            skip_or_fail("the dashboard", "npm ci --prefix clients/web, then npm run dashboard")
        yield system
