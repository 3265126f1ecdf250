"""A reload of the page of a long run, in a real browser, against a real API."""

from collections.abc import Iterator

import httpx
import nats
import pytest

from harness.http.windows import browser_windows
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.processes.required_tools import skip_or_fail
from harness.web.reload import long_run, reload

_MAX_STREAM_BYTES = 5_000
_RUN = "/api/v1/executions/"


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, ApiProcess]]:
    """Start NATS and an API; no worker, so that only the test writes the run."""
    folder = tmp_path_factory.mktemp("reload")
    with NatsServer(folder) as server, ApiProcess(server.url, folder) as api:
        page = httpx.get(api.url, headers={"accept": "text/html"})
        if "was not built" in page.text:
            skip_or_fail("the dashboard", "npm ci --prefix clients/web, then npm run dashboard")
        yield server, api


async def test_a_reload_receives_next_to_nothing_of_a_long_run(
    servers: tuple[NatsServer, ApiProcess],
) -> None:
    """The stream goes on after 10,000 kept events, and the API sends none of them."""
    server, api = servers
    client = await nats.connect(server.url)
    try:
        log = await long_run(api.url, client)
        async with browser_windows(api.url) as windows:
            found = await reload(await windows.open("settings"), api.url, log)
    finally:
        await client.close()
    assert 0 < found.stream_bytes < _MAX_STREAM_BYTES
    assert not [path for path in found.received if path.startswith(_RUN)]
