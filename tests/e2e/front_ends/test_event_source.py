"""A page whose client opens its streams with an EventSource and tickets."""

import subprocess
from pathlib import Path

import pytest

from harness.http.browser import browser_page
from harness.http.cutting_gateway import cutting_gateway
from harness.http.secured_system import SecuredSystem
from harness.processes.required_tools import skip_or_fail
from tailrace import Client
from tools.web_packages import WEB, missing_tool

_PAGE = """<!doctype html>
<title>A page</title>
<script type="module">
  import { createClient } from "/client/index.js";
  const client = createClient({
    transport: "eventsource",
    token: "TOKEN",
    organization: "org-456",
    sharing: "none",
  });
  window.client = client;
  window.blocks = [];
  client.observe("/api/v1/sse/executions/EXECUTION/stream", {
    reset: () => { window.blocks = []; },
    blocks: (all) => window.blocks.push(...all.map(({ event, id }) => [event, id])),
    ended: (reason) => { window.ended = reason; },
  });
</script>
"""


@pytest.fixture(scope="module")
def client_folder() -> Path:
    """Build the client; return its folder."""
    missing = missing_tool()
    if missing is not None:
        skip_or_fail("a tool of the web packages", missing)
    subprocess.run(("npm", "run", "--silent", "build"), cwd=WEB, check=True)
    return WEB / "packages/client/dist"


@pytest.mark.timeout(300)
async def test_a_cut_stream_goes_on_with_another_ticket(
    secured: SecuredSystem, client_456: Client, client_folder: Path
):
    """It has each event once, in order, and learns that the run has ended."""
    nodes = {
        "sign": {"type": "await", "with": {"reason": "approval"}},
        "send": {"type": "log", "needs": ["sign"], "with": {"message": "sent"}},
    }
    client_456.apply({"id": "signed", "nodes": nodes})
    execution = str(client_456.run("signed", {})["execution_id"])
    script = _PAGE.replace("TOKEN", secured.token("org-456")).replace("EXECUTION", execution)
    ports = (secured.up.port, secured.up.port + 1)
    async with cutting_gateway(*ports) as gateway, browser_page() as page:
        gateway.page = script
        gateway.folders["client"] = client_folder
        gateway.cut_at = b'"node_id":"send"'
        await page.goto(f"http://127.0.0.1:{gateway.port}/")
        await page.wait_for_function('client.connection.get().transport === "eventsource"')
        client_456.resume(execution)
        await page.wait_for_function("window.ended === null")
        blocks = await page.evaluate("blocks")
        streams = [each.path for each in gateway.stream_requests if "ticket=" in each.path]
    logs = client_456.get(execution, include_logs=True)["logs"]
    seen = [(event, event_id) for event, event_id in blocks if event != "connected"]
    assert seen == [(entry["type"], entry["id"]) for entry in logs]
    assert len(streams) >= 2
