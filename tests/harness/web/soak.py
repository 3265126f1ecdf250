"""Keep the dashboard open on a live system, and watch the heap of its page.

    PYTHONPATH=tests python -m harness.web.soak --minutes 60

Runs start all the time. The page goes from place to place, as a person would. Once a minute it
returns to the overview, and its heap is printed after a collection of garbage. It fails if the
heap is not flat: if the line through the second half of the values rises or falls by more than a
tenth of their mean. Build the dashboard first.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import CDPSession, Page

from harness.http.browser import browser_context
from harness.processes.tailrace_up import TailraceUp

_MIB: Final = 1024 * 1024
_ALLOWED_SHARE: Final = 0.1
_START_EVERY_S: Final = 3.0
_STAY_S: Final = 4.0
_ORDER: Final = json.loads(
    Path(__file__)
    .parents[3]
    .joinpath("examples/purchase_order/samples/office-furniture.json")
    .read_text()
)
_PLACES: Final = ("runs", "newest run", "inbox", "feed", "performance", "pipelines", "streams")


def drift(heaps: list[float]) -> float:
    """Return how far the line through values rises from the first to the last, in their mean."""
    if len(heaps) < 2:
        return 0.0
    times = range(len(heaps))
    slope = statistics.linear_regression(times, heaps).slope
    return slope * (len(heaps) - 1) / statistics.fmean(heaps)


async def _start_runs(http: httpx.AsyncClient, started: list[str]) -> None:
    """Start runs until this is cancelled; every tenth one waits for a decision, and gets it."""
    for count in itertools.count():
        name = "purchase-order-approval" if count % 10 == 0 else "purchase-order"
        order = {**_ORDER, "po_number": f"PO-{count}"}
        answer = await http.post(f"/api/v1/workflows/{name}/runs", json={"input": order})
        started.append(answer.raise_for_status().json()["execution_id"])
        await asyncio.sleep(_START_EVERY_S)
        if count % 10 == 0:
            path = f"/api/v1/executions/{started[-1]}/resume"
            # A run that does not wait yet, or any more, refuses: the load goes on.
            await http.post(path, json={"decision": "approved"})


async def _heap(page: Page, session: CDPSession) -> float:
    await page.evaluate("location.hash = '#/'")
    await page.get_by_role("heading", name="Overview").wait_for()
    for _ in range(2):
        await session.send("HeapProfiler.collectGarbage")
    used: float = (await session.send("Runtime.getHeapUsage"))["usedSize"]
    return used / _MIB


async def soak(url: str, minutes: float) -> tuple[list[float], list[str]]:
    """Return the heap in MiB of each minute, and what the page wrote to its console."""
    heaps: list[float] = []
    complaints: list[str] = []
    started: list[str] = []
    async with httpx.AsyncClient(base_url=url, timeout=60) as http, browser_context() as context:
        page = await context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        session = await context.new_cdp_session(page)
        await page.goto(url)
        starting = asyncio.create_task(_start_runs(http, started))
        places = itertools.cycle(_PLACES)
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            minute = began + (len(heaps) + 1) * 60
            while time.monotonic() < minute:
                place = next(places)
                if place == "newest run":
                    place = f"runs/{started[-1]}"
                await page.evaluate("place => { location.hash = place; }", f"#/{place}")
                await asyncio.sleep(_STAY_S)
            heaps.append(await _heap(page, session))
            nodes: Any = await page.evaluate("document.querySelectorAll('*').length")
            line = f"minute {len(heaps):3d}   {heaps[-1]:7.2f} MiB   {nodes} elements"
            sys.stdout.write(f"{line}   {len(started)} runs\n")
            sys.stdout.flush()
        if starting.done():
            starting.result()
        starting.cancel()
    return heaps, complaints


def main() -> None:
    """Soak as long as the command line says; exit with 1 if the heap is not flat."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60)
    minutes = parser.parse_args().minutes
    with (
        tempfile.TemporaryDirectory() as folder,
        TailraceUp(Path(folder), "--demo", "--workers", "1") as up,
    ):
        heaps, complaints = asyncio.run(soak(up.wait_ready().url, minutes))
    found = drift(heaps[len(heaps) // 2 :])
    sys.stdout.write(f"drift over the second half {found:+.1%} (bar: ±{_ALLOWED_SHARE:.0%})\n")
    sys.stdout.writelines(f"console: {each}\n" for each in complaints)
    sys.exit(1 if abs(found) > _ALLOWED_SHARE or complaints else 0)


if __name__ == "__main__":
    main()
