"""Take the pictures of the dashboard, each page in both themes.

    PYTHONPATH=tests .venv/bin/python tests/e2e/dashboard/pictures.py docs/dashboard

It starts a system with the examples and lets some workflows run. ``--width 360`` takes the pictures
that a phone shows.
"""

import argparse
import asyncio
import base64
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import Browser, Page, Route, async_playwright

from harness.http.secured_system import environment
from harness.nats.buried_job import bury_job
from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp

_ROOT: Final = Path(__file__).parents[3]
_WIDE: Final = {"width": 1360, "height": 850}
_NARROW_HEIGHT: Final = 760
_TIMEOUT_MS: Final = 120_000
_SAMPLES: Final = _ROOT / "examples/purchase_order/samples"
_ITEMS: Final = 56
_TO_WEBP: Final = """
async (png) => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
  return canvas.toDataURL("image/webp", 0.82);
}
"""

_INTAKE: Final = {
    "name": "Order intake",
    "description": "Prices an order with the suppliers, asks for approval, and ships it.",
    "nodes": {
        "parse": {"name": "Read the order", "type": "simulate", "with": {"duration": "1200ms"}},
        "prices": {
            "name": "Ask for prices",
            "type": "map",
            "needs": ["parse"],
            "with": {
                "for_each": str(list(range(_ITEMS))),
                "max_parallel": 8,
                "on_error": "collect",
                "do": {
                    "type": "simulate",
                    "with": {"duration": "2500ms", "fail_rate": 0.05, "seed": 4},
                },
            },
        },
        "stock": {
            "name": "Reserve the stock",
            "type": "simulate",
            "needs": ["parse"],
            "with": {"duration": "2600ms"},
        },
        "customs": {
            "name": "Clear customs",
            "type": "log",
            "needs": ["parse"],
            "when": "1 > 2",
            "with": {"message": "customs"},
        },
        "approve": {
            "name": "Approve the order",
            "type": "await",
            "needs": ["parse"],
            "timeout": "24h",
            "with": {
                "reason": "approval",
                "form": {
                    "type": "object",
                    "required": ["limit"],
                    "properties": {
                        "limit": {"type": "number", "title": "Credit limit"},
                        "comment": {"type": "string", "title": "Comment"},
                    },
                },
            },
        },
        "ship": {
            "name": "Ship",
            "type": "simulate",
            "needs": ["prices", "stock", "customs", "approve"],
            "with": {"duration": "900ms"},
        },
        "invoice": {
            "name": "Send the invoice",
            "type": "log",
            "needs": ["ship"],
            "with": {"message": "invoice sent"},
        },
    },
}
_THEMES: Final[tuple[Any, ...]] = ("light", "dark")
_FEED_LINES: Final = 8
_TRACEBACK: Final = """Traceback (most recent call last):
  File "tailrace_worker/jobs/handler.py", line 88, in handle
    await self._advance(job)
  File "tailrace_worker/engine/advance.py", line 41, in advance
    raise ValueError(f"unknown execution {job.execution_id}")
ValueError: unknown execution 01a22a07-0000-7000-8000-000000000000"""
_CHARGE: Final = {
    "name": "Card charge",
    "nodes": {
        "quote": {"type": "simulate", "with": {"duration": "300ms"}},
        "charge": {"type": "fail", "needs": ["quote"], "with": {"message": "402 card declined"}},
    },
}


async def _seed(http: httpx.AsyncClient) -> dict[str, str]:
    """Start runs of every kind; return the ids of the last of each workflow."""

    async def start(workflow: str, value: Any) -> str:
        answer = await http.post(f"/api/v1/workflows/{workflow}/runs", json={"input": value})
        return str(answer.raise_for_status().json()["execution_id"])

    for workflow, definition in (("order-intake", _INTAKE), ("card-charge", _CHARGE)):
        (await http.put(f"/api/v1/workflows/{workflow}", json=definition)).raise_for_status()
    # With another version, the page of the workflow lets its reader choose one.
    path = "/api/v1/workflows/purchase-order"
    changed = (await http.get(path)).raise_for_status().json()["definition"]
    changed["nodes"]["parse"]["timeout"] = "20s"
    (await http.put(path, json=changed)).raise_for_status()
    orders = [json.loads(each.read_text()) for each in sorted(_SAMPLES.glob("*.json"))]
    runs: dict[str, str] = {}
    for count in range(4):
        await start("order-intake", {"po_number": f"PO-20{count}"})
        for order in orders:
            runs[f"purchase-{count}"] = await start("purchase-order", order)
        await asyncio.sleep(1)  # so that pages show runs of several moments
    runs["failed"] = await start("card-charge", {})
    for number in ("PO-2024-0117", "PO-2024-0118"):
        order = {**orders[0], "po_number": number}
        runs["approval"] = await start("purchase-order-approval", order)
    schedule = {"id": "every-morning", "workflow_id": "order-intake", "cron": "0 6 * * *"}
    (await http.post("/api/v1/schedules", json=schedule)).raise_for_status()
    # The run of the first picture is taken while it goes on; the others have ended by then.
    await until(lambda: _is(http, runs["approval"], "paused"))
    await until(lambda: _none_runs(http))
    runs["intake"] = await start("order-intake", {"po_number": "PO-2024-0120"})
    return runs


async def _order(http: httpx.AsyncClient) -> None:
    """Let an order pass, so that the feed has something to tell."""
    order = json.loads(min(_SAMPLES.glob("*.json")).read_text())
    path = "/api/v1/workflows/purchase-order/runs"
    (await http.post(path, json={"input": order})).raise_for_status()


async def _prepare(name: str, page: Page, http: httpx.AsyncClient, runs: dict[str, str]) -> None:
    """Bring a page into the state that its picture shows."""
    if name == "run":
        await until(lambda: _is_priced(http, runs["intake"]))
    elif name == "feed":
        await _order(http)
        await page.locator(".feed li").nth(_FEED_LINES).wait_for()
    elif name == "editor":
        line = page.locator(".cm-line").filter(has_text="type: po.check")
        await line.click()
        await page.keyboard.press("End")
        await page.keyboard.insert_text("s")
        await page.get_by_label("Problems").wait_for()
    elif name == "compare":
        await page.locator(".vrow").last.click()
    elif name == "dead-letters":
        await page.locator("[data-row]").first.click()
        await page.get_by_label("Traceback").first.wait_for()


async def _is(http: httpx.AsyncClient, run: str, status: str) -> bool:
    found: str = (await http.get(f"/api/v1/executions/{run}")).json()["status"]
    return found == status


async def _none_runs(http: httpx.AsyncClient) -> bool:
    runs = (await http.get("/api/v1/executions?limit=200")).json()["runs"]
    return not any(run["status"] in {"queued", "running"} for run in runs)


async def _is_priced(http: httpx.AsyncClient, run: str) -> bool:
    """Return whether more than half of the prices are known."""
    steps = (await http.get(f"/api/v1/executions/{run}")).json()["steps"]
    known = [each for each in steps if each["status"] == "success"]
    return len(known) > _ITEMS * 0.6


def _size(width: int) -> Any:
    return _WIDE if width >= _WIDE["width"] else {"width": width, "height": _NARROW_HEIGHT}


async def _open(browser: Browser, url: str, theme: Any, size: Any) -> Page:
    page = await browser.new_page(viewport=size, color_scheme=theme)
    page.set_default_timeout(_TIMEOUT_MS)
    await page.goto(url)
    await page.locator(".live.is-success").wait_for()
    return page


async def compressed(png: bytes, page: Page) -> bytes:
    """Return a picture as WebP, which is a third of its size."""
    url = await page.evaluate(_TO_WEBP, base64.b64encode(png).decode())
    return base64.b64decode(url.partition(",")[2])


def _places(runs: dict[str, str]) -> dict[str, str]:
    """Return where the pictures are taken, by their names."""
    intake = f"runs/{runs['intake']}"
    return {
        "run": f"{intake}?step=approve",
        "feed": "feed",
        "timeline": f"{intake}?tab=timeline",
        "events": f"{intake}?tab=events",
        "failed": f"runs/{runs['failed']}?step=charge",
        "overview": "",
        "inbox": "inbox",
        "runs": "runs",
        "workflows": "workflows",
        "workflow": "workflows/purchase-order",
        "editor": "workflows/purchase-order?tab=definition",
        "compare": f"compare/{runs['purchase-2']}/{runs['purchase-3']}",
        "performance": "performance",
        "pipelines": "pipelines",
        "schedules": "schedules",
        "streams": "streams",
        "dead-letters": "dead-letters",
        "settings": "settings",
    }


class _Photographer:
    """Takes pictures of pages, one for each theme."""

    def __init__(self, pages: dict[str, Page], blank: Page, folder: Path) -> None:
        self._pages = pages
        self._blank = blank
        self._folder = folder

    async def go(self, place: str) -> None:
        for page in self._pages.values():
            await page.evaluate("path => { location.hash = path; }", f"#/{place}")
            await page.locator("main h1").first.wait_for()

    async def settled(self) -> None:
        for page in self._pages.values():
            await page.locator("[aria-label=Loading]").first.wait_for(state="detached")

    async def take(self, name: str) -> None:
        for theme, page in self._pages.items():
            png = await page.screenshot(animations="disabled")
            taken = await compressed(png, self._blank)
            (self._folder / f"{name}-{theme}.webp").write_bytes(taken)

    async def without_server(self, answer: Any, name: str) -> None:
        """Take the overview while requests get this answer."""
        for page in self._pages.values():
            await page.route("**/api/**", answer)
            await page.evaluate("location.hash = '#/'")
            await page.reload()
            await page.get_by_role("alert").first.wait_for()
        await self.take(name)
        for page in self._pages.values():
            await page.unroute("**/api/**")
            await page.reload()
            await page.locator(".live.is-success").wait_for()


async def _fail(route: Route) -> None:
    detail = {"title": "Unavailable", "status": 503, "detail": "NATS does not answer"}
    headers = {"x-request-id": "01a22a07-9219-70dd"}
    await route.fulfill(status=503, json=detail, headers=headers)


async def _take(system: TailraceUp, folder: Path, width: int) -> None:
    size = _size(width)
    async with (
        httpx.AsyncClient(base_url=system.url, timeout=60) as http,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=False
        )
        pages = {theme: await _open(browser, system.url, theme, size) for theme in _THEMES}
        photographer = _Photographer(pages, await browser.new_page(), folder)
        await photographer.settled()
        await photographer.take("empty")
        runs = await _seed(http)
        await bury_job(system, _TRACEBACK)
        for name, place in _places(runs).items():
            await photographer.go(place)
            for page in pages.values():
                await _prepare(name, page, http, runs)
            await photographer.settled()
            await photographer.take(name)
        await photographer.without_server(_fail, "error")
        for page in pages.values():
            await page.context.set_offline(True)
            await page.locator(".banner").wait_for()
        await photographer.take("offline")
        await browser.close()


async def _take_signed_out(system: TailraceUp, folder: Path, width: int) -> None:
    size = _size(width)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=False
        )
        pages = {}
        for theme in _THEMES:
            pages[theme] = await browser.new_page(viewport=size, color_scheme=theme)
            await pages[theme].goto(system.url)
            await pages[theme].locator(".sign-in").wait_for()
        await _Photographer(pages, await browser.new_page(), folder).take("signed-out")
        await browser.close()


def main() -> None:
    """Take the pictures into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--width", type=int, default=_WIDE["width"])
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        TailraceUp(Path(folder), "--demo", "--workers", "1") as up,
    ):
        up.wait_ready()
        asyncio.run(_take(up, given.folder, given.width))
    with (
        tempfile.TemporaryDirectory() as folder,
        TailraceUp(Path(folder), "--workers", "1", environment=environment()) as up,
    ):
        up.wait_ready()
        asyncio.run(_take_signed_out(up, given.folder, given.width))


if __name__ == "__main__":
    main()
