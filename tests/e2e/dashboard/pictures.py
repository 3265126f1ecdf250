"""Take the pictures of the dashboard, each page in both themes.

    PYTHONPATH=tests .venv/bin/python tests/e2e/dashboard/pictures.py docs/dashboard

It starts a system with the examples, lets some workflows run, and writes more than docs/ keeps.
"""

import asyncio
import base64
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import Browser, Page, async_playwright

from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp

_ROOT: Final = Path(__file__).parents[3]
_SIZE: Final = {"width": 1360, "height": 850}
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
  return canvas.toDataURL("image/webp", 0.9);
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
                    "with": {"duration": "1500ms", "fail_rate": 0.05, "seed": 4},
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
    orders = [json.loads(path.read_text()) for path in sorted(_SAMPLES.glob("*.json"))]
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


async def _open(browser: Browser, url: str, theme: Any) -> Page:
    page = await browser.new_page(viewport=_SIZE, color_scheme=theme)  # type: ignore[arg-type]
    page.set_default_timeout(_TIMEOUT_MS)
    await page.goto(url)
    await page.locator(".live.is-success").wait_for()
    return page


async def compressed(png: bytes, page: Page) -> bytes:
    """Return a picture as WebP, which is a third of its size."""
    url = await page.evaluate(_TO_WEBP, base64.b64encode(png).decode())
    return base64.b64decode(url.partition(",")[2])


async def _take(system: TailraceUp, folder: Path) -> None:
    async with (
        httpx.AsyncClient(base_url=system.url, timeout=60) as http,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=False
        )
        pages = {theme: await _open(browser, system.url, theme) for theme in ("light", "dark")}
        blank = await browser.new_page()
        runs = await _seed(http)
        places = {
            "run": f"runs/{runs['intake']}?step=approve",
            "failed": f"runs/{runs['failed']}?step=charge",
            "overview": "",
            "inbox": "inbox",
            "runs": "runs",
            "workflows": "workflows",
            "workflow": "workflows/purchase-order",
            "compare": f"compare/{runs['purchase-2']}/{runs['purchase-3']}",
            "performance": "performance",
            "pipelines": "pipelines",
            "schedules": "schedules",
            "streams": "streams",
            "feed": "feed",
            "dead-letters": "dead-letters",
            "settings": "settings",
        }
        for name, place in places.items():
            for page in pages.values():
                await page.evaluate("path => { location.hash = path; }", f"#/{place}")
                await page.locator("main h1").wait_for()
            if name == "run":
                await until(lambda: _is_priced(http, runs["intake"]))
            for page in pages.values():
                await page.locator(".skeleton").first.wait_for(state="detached")
            for theme, page in pages.items():
                taken = await compressed(await page.screenshot(animations="disabled"), blank)
                (folder / f"{name}-{theme}.webp").write_bytes(taken)
        await browser.close()


def main() -> None:
    """Take the pictures into the folder that the command line names."""
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        TailraceUp(Path(folder), "--demo", "--workers", "1") as up,
    ):
        up.wait_ready()
        asyncio.run(_take(up, target))


if __name__ == "__main__":
    main()
