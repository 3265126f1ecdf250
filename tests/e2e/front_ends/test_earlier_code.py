"""The published code of earlier front ends, with other import lines, in Chromium.

`clients/web/front-ends` has the code and the page.
"""

import functools
import json
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.async_api import Page, expect

from harness.http.browser import browser_context
from harness.http.cutting_gateway import CuttingGateway, cutting_gateway
from harness.processes.polling import until
from harness.processes.required_tools import skip_or_fail
from harness.processes.tailrace_up import TailraceUp
from tailrace import Client
from tools.web_packages import WEB, missing_tool

pytestmark = pytest.mark.timeout(300)
expect.set_options(timeout=90_000)

_APPROVAL: Final[dict[str, Any]] = {
    "id": "approval",
    "nodes": {
        "draft": {"type": "transform", "with": {"value": {"document_id": "doc-1"}}},
        "wait-approval": {"type": "await", "needs": ["draft"], "with": {"reason": "approval"}},
        "send": {"type": "log", "needs": ["wait-approval"], "with": {"message": "sent"}},
    },
}
_HTML: Final = (
    '<!doctype html><title>A page</title><script type="module" src="/app/main.js"></script>'
)
_SET_VISIBILITY: Final = """
(state) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, value: state });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@pytest.fixture
def client(system: TailraceUp) -> Iterator[Client]:
    """Return a client whose server has the workflow."""
    with Client(system.url) as opened:
        opened.apply(_APPROVAL)
        yield opened
        # A waiting run would count for the state of the pipeline.
        for waiting in opened.waiting()["waiting"]:
            opened.cancel(waiting["execution_id"])
            for _event in opened.events(waiting["execution_id"]):
                pass


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page; return its folder."""
    missing = missing_tool()
    if missing is not None:
        skip_or_fail("a tool of the web packages", missing)
    folder = tmp_path_factory.mktemp("app")
    for command in (("npm", "run", "--silent", "build"), ("node", "front-ends/build.js", folder)):
        subprocess.run(command, cwd=WEB, check=True)
    return folder


@asynccontextmanager
async def _opened(
    app: Path, system: TailraceUp, query: str
) -> AsyncIterator[tuple[Page, CuttingGateway, list[str]]]:
    """Open the page behind a gateway; yield both, and what the page writes to its console."""
    ports = (system.port, system.port + 1)
    async with cutting_gateway(*ports) as gateway, browser_context() as context:
        gateway.page = _HTML
        gateway.folders["app"] = app
        page = await context.new_page()
        lines: list[str] = []
        page.on("console", lambda message: lines.append(message.text))
        page.on("pageerror", lambda error: lines.append(f"page error: {error.stack}"))
        await page.goto(f"http://127.0.0.1:{gateway.port}/?{query}")
        yield page, gateway, lines
        assert [line for line in lines if line.startswith("page error")] == []


async def test_code_of_its_own_streams_works_as_published(
    app: Path, system: TailraceUp, client: Client
) -> None:
    """It uses EventSource itself: one execution, the paused workflows, and its own test."""
    execution = _paused(client)
    async with _opened(app, system, f"{execution}&published") as (page, _gateway, lines):
        await expect(page.locator("#own[data-status=connected]")).to_have_count(1)
        # The test of the published code starts a run of its own.
        await until(lambda: _is_true("tests passed" in lines), 90)
        client.resume(execution)
        await expect(page.locator("#own[data-status=completed]")).to_have_count(1)
        await until(lambda: _is_true(any("Workflow concluido!" in line for line in lines)), 90)
        shown = json.loads(await page.locator("#own").inner_text())
        for begin in (
            *("Conectado: ", "Step transform iniciou", "Step transform completou em "),
            *("Aguardando: approval", "Initial: ", "Paused: ", "Resumed: "),
        ):
            # The list of paused workflows is another stream, which may be later than the run's.
            await until(functools.partial(_has_line, lines, begin), 90)
    assert [each["type"] for each in shown] == [
        *("step:started", "step:completed", "step:started", "execution:paused"),
        *("step:completed", "step:started", "step:completed", "execution:completed"),
    ]


async def test_code_with_the_packages_survives_everything(
    app: Path, system: TailraceUp, client: Client
) -> None:
    """A cut, a deployment, a hidden tab, and a fallback to polling and back, without a reload."""
    execution = _paused(client)
    async with _opened(app, system, execution) as (page, gateway, _lines):
        pipeline = page.get_by_text(re.compile("^Status: "))
        connection = page.get_by_text(re.compile("^Connection: "))
        paused = page.get_by_role("region", name="Paused workflows").get_by_role("row")
        await expect(pipeline).to_have_text("Status: paused")
        await expect(page.get_by_text("Live updates active")).to_be_visible()
        await expect(paused.filter(has_text=execution)).to_have_count(1)

        # A cut in the middle of an event.
        gateway.cut_at = b'"node_id":"send"'
        client.resume(execution)
        await expect(page.locator("#execution[data-status=completed]")).to_have_count(1)
        await expect(pipeline).to_have_text("Status: completed")
        await expect(paused.filter(has_text=execution)).to_have_count(0)
        assert gateway.cut_at == b""
        await _shows_the_log(page, client, execution)

        # A deployment replaces both replicas.
        await page.get_by_role("button", name="Execute").click()
        flow = page.locator("#flow")
        await expect(flow.locator("[data-node=draft][data-status=success]")).to_have_count(1)
        await expect(flow.locator("[data-node=wait-approval][data-status=running]")).to_have_count(
            1
        )
        for api in _replicas(system):
            os.kill(api, signal.SIGTERM)
            await until(functools.partial(_is_replaced, system, api), 90)
        client.resume(str(await flow.get_attribute("data-execution")))
        await expect(flow.locator("[data-status=success]")).to_have_count(3)
        await expect(pipeline).to_have_text("Status: completed")

        # A hidden tab has no stream, and is current when it is shown again.
        await page.evaluate(_SET_VISIBILITY, "hidden")
        await expect(connection).to_have_text("Connection: disconnected")
        hidden = _paused(client)
        await expect(pipeline).to_have_text("Status: completed")
        await page.evaluate(_SET_VISIBILITY, "visible")
        await expect(pipeline).to_have_text("Status: paused")
        await expect(connection).to_have_text("Connection: connected")

        # Streams are refused until polling takes over, and then again served.
        gateway.refuses_streams = True
        gateway.cut_all()
        again = page.get_by_role("button", name="Retry SSE")
        await expect(again).to_be_visible()
        client.resume(hidden)
        await expect(pipeline).to_have_text("Status: completed")
        gateway.refuses_streams = False
        await again.click()
        await expect(connection).to_have_text("Connection: connected")
        await expect(again).to_have_count(0)
        _paused(client)
        await expect(pipeline).to_have_text("Status: paused")


def _paused(client: Client) -> str:
    """Start a run, and wait until it waits for a decision."""
    execution = str(client.run("approval", {})["execution_id"])
    for event in client.events(execution):
        if event.type == "execution:paused":
            return execution
    raise AssertionError("the run has ended")


async def _shows_the_log(page: Page, client: Client, execution: str) -> None:
    """Each event once, in the order of the log."""
    logs = client.get(execution, include_logs=True)["logs"]
    shown = json.loads(await page.locator("#execution").inner_text())
    assert shown == [{key: each[key] for key in ("type", "data", "timestamp")} for each in logs]


def _replicas(system: TailraceUp) -> list[int]:
    return [pid for pid, command in system.children().items() if "tailrace_api" in command]


async def _is_replaced(system: TailraceUp, before: int) -> bool:
    """Whether another process serves in a replica's place."""
    if before in _replicas(system) or len(_replicas(system)) < 2:
        return False
    async with httpx.AsyncClient(timeout=60) as http:
        for port in (system.port, system.port + 1):
            try:
                if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code != 200:
                    return False
            except httpx.TransportError:
                return False
    return True


async def _has_line(lines: list[str], begin: str) -> bool:
    return any(line.startswith(begin) for line in lines)


async def _is_true(value: bool) -> bool:
    return value
