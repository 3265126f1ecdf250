"""The dashboard in a real browser, against real processes. No console output, no CSP violation."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import Page, expect

from harness.http.windows import TIMEOUT_MS, browser_windows
from harness.processes.required_tools import skip_or_fail
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

_ROOT: Final = Path(__file__).parents[3]
_AXE: Final = _ROOT / "clients/web/node_modules/axe-core/axe.min.js"
_ORDER: Final = json.loads(
    (_ROOT / "examples/purchase_order/samples/office-furniture.json").read_text()
)
_PAGES: Final = (
    "",
    "workflows",
    "workflows/purchase-order",
    "workflows/new",
    "runs",
    "inbox",
    "pipelines",
    "feed",
    "performance",
    "schedules",
    "dead-letters",
    "streams",
    "settings",
)
_THEMES: Final[dict[str, Any]] = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}
"""The themes, and the rules that a theme can break."""
_STATUSES: Final = """
Object.fromEntries([...document.querySelectorAll("[data-node]")]
  .map((node) => [node.dataset.node, node.dataset.status]))
"""
_SERIOUS: Final = """
(rules) => axe.run({resultTypes: ["violations"], ...rules}).then((result) => result.violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" ")}`))
"""


async def test_the_example_is_started_by_its_form_and_scrubbed_event_by_event(
    system: TailraceUp,
) -> None:
    """At each event of the log, every node shows the state that the log gives it."""
    async with browser_windows(system.url) as windows:
        page = await windows.open("workflows/purchase-order")
        await page.get_by_role("button", name="Start a run").click()
        await page.get_by_role("button", name="JSON").click()
        await page.get_by_label("Value in JSON").fill(json.dumps(_ORDER))
        await page.get_by_role("button", name="Start the run").click()
        await expect(page.locator("header .pill[data-status=completed]")).to_be_visible()
        await expect(page.locator("[data-node]")).to_have_count(7)
        await page.locator("[data-node=parse]").click()
        await expect(page.get_by_label("Step parse")).to_contain_text("Read the CSV")

        slider = page.get_by_role("slider", name="Event")
        total = int(await slider.get_attribute("max") or 0)
        await slider.press("Home")
        seen: dict[str, list[str]] = {}
        for event in range(1, total + 1):
            await expect(page.get_by_text(f"event {event} of {total}")).to_be_visible()
            for node, status in (await page.evaluate(_STATUSES)).items():
                if seen.setdefault(node, [status])[-1] != status:
                    seen[node].append(status)
            await page.keyboard.press(".")
    ended = {node: statuses[-1] for node, statuses in seen.items()}
    assert set(ended.values()) == {"success", "skipped"}
    assert {tuple(seen[node]) for node in ended if ended[node] == "success"} == {
        ("pending", "running", "success")
    }


@contextlib.asynccontextmanager
async def _gate() -> AsyncIterator[tuple[str, dict[str, asyncio.Event]]]:
    """Serve paths whose responses wait for their event; yield the address and the events."""
    events = {"/first": asyncio.Event(), "/second": asyncio.Event()}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await events[head.split()[1].decode()].wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}", events


async def test_a_run_is_followed_live_and_survives_a_cut(system: TailraceUp) -> None:
    """Steps are idle, run for as long as their request is held, and succeed; without a reload."""
    async with _gate() as (url, events), browser_windows(system.url) as windows:
        nodes = {
            "first": {"type": "http", "with": {"url": f"{url}/first"}},
            "second": {"type": "http", "needs": ["first"], "with": {"url": f"{url}/second"}},
        }
        run = await _start(system, "held", {"nodes": nodes}, {})
        page = await windows.open(f"runs/{run}")
        await _shows(page, first="running", second="pending")
        events["/first"].set()
        await _shows(page, first="success", second="running")

        await page.evaluate("location.hash = '#/streams'")
        await page.get_by_role("button", name="Pull the plug").click()
        events["/second"].set()
        await _ended(system, run)
        await page.get_by_role("button", name="Plug it in again").click()
        await page.evaluate(f"location.hash = '#/runs/{run}'")
        await _shows(page, first="success", second="success")
        await expect(page.locator("header .pill[data-status=completed]")).to_be_visible()


async def test_a_page_survives_the_death_of_the_api(system: TailraceUp) -> None:
    """Without a reload, and without a missing or doubled event."""
    async with _gate() as (url, events), browser_windows(system.url) as windows:
        windows.expect_outage = True
        nodes = {
            "first": {"type": "http", "with": {"url": f"{url}/first"}},
            "second": {"type": "log", "needs": ["first"], "with": {"message": "done"}},
        }
        run = await _start(system, "outlived", {"nodes": nodes}, {})
        page = await windows.open(f"runs/{run}")
        await _shows(page, first="running", second="pending")
        await page.evaluate("window.isSamePage = true")
        os.kill(system.child("tailrace_api"), signal.SIGKILL)
        system.wait_stderr("restarting in")
        events["/first"].set()
        await _shows(page, first="success", second="success")
        await expect(page.locator("header .pill[data-status=completed]")).to_be_visible()
        document = await _ended(system, run, include_logs=True)
        total = len(document["logs"])
        await expect(page.get_by_text(f"event {total} of {total}")).to_be_visible()
        await page.get_by_role("link", name="Events").click()
        await page.get_by_role("button", name="Compare with the log").click()
        await expect(page.get_by_text(f"missing 0 · doubled 0 of {total}")).to_be_visible()
        assert await page.evaluate("window.isSamePage")


async def test_a_decision_leaves_the_list_in_another_window(system: TailraceUp) -> None:
    """Both share one stream. The decision is made with the form of its schema, and is applied."""
    form = {"type": "object", "properties": {"comment": {"type": "string"}}}
    nodes = {"decide": {"type": "await", "with": {"reason": "approval", "form": form}}}
    run = await _start(system, "decision", {"nodes": nodes}, {})
    async with browser_windows(system.url) as windows:
        one, other = await windows.open("inbox"), await windows.open("inbox")
        entry = f"[data-entry='{run}~decide']"
        await expect(other.locator(entry)).to_have_count(1)
        for window in (one, other):
            await expect(window.locator(".live")).to_contain_text("2 tabs · 1 stream")
        await one.locator(entry).get_by_role("button").click()
        await one.get_by_label("comment").fill("fine")
        await one.get_by_role("button", name="Approve").click()
        await expect(other.locator(entry)).to_have_count(0)
        await expect(one.get_by_role("list", name="Receipt")).to_contain_text("applied")
        await expect(one.locator("[aria-label=Receipt] [data-done]")).to_have_count(3)
    document = await _ended(system, run)
    assert document["status"] == "completed"
    assert document["steps"][0]["output"]["data"] == {"comment": "fine"}


async def test_no_page_has_a_serious_accessibility_fault(system: TailraceUp) -> None:
    """In the light and in the dark theme, by axe."""
    if not _AXE.is_file():
        skip_or_fail("axe-core", "npm ci --prefix clients/web")
    nodes = {"decide": {"type": "await", "with": {"reason": "approval"}}}
    run = await _start(system, "audited", {"nodes": nodes}, {})
    found: list[str] = []
    async with browser_windows(system.url) as windows:
        page = await windows.open("inbox")
        await expect(page.locator(f"[data-entry='{run}~decide']")).to_have_count(1)
        await page.evaluate(_AXE.read_text())
        for path in (*_PAGES, f"runs/{run}?step=decide", f"runs/{run}?tab=events"):
            await page.evaluate("path => { location.hash = path; }", f"#/{path}")
            await expect(page.locator("main h1")).to_be_visible()
            await expect(page.get_by_label("Loading")).to_have_count(0)
            for theme, rules in _THEMES.items():
                choose = "theme => { document.documentElement.dataset.theme = theme; }"
                await page.evaluate(choose, theme)
                faults = await page.evaluate(_SERIOUS, rules)
                found += [f"{path} {theme} {each}" for each in faults]
    assert found == []


async def _start(system: TailraceUp, workflow: str, definition: Any, value: Any) -> str:
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
        path = f"/api/v1/workflows/{workflow}"
        (await http.put(path, json=definition)).raise_for_status()
        started = await http.post(f"{path}/runs", json={"input": value})
        return str(started.raise_for_status().json()["execution_id"])


async def _ended(system: TailraceUp, run: str, *, include_logs: bool = False) -> dict[str, Any]:
    """Follow the run's stream until it ends; return its document."""
    async with httpx.AsyncClient(base_url=system.url, timeout=TIMEOUT_MS / 1000) as http:
        await http.get(f"/api/v1/sse/executions/{run}/stream")
        document: dict[str, Any] = (
            await http.get(f"/api/v1/executions/{run}", params={"include_logs": include_logs})
        ).json()
        return document


async def _shows(page: Page, **statuses: str) -> None:
    for node, status in statuses.items():
        await expect(page.locator(f"[data-node={node}][data-status={status}]")).to_be_visible()
