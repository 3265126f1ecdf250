"""Measure the run page of the dashboard while a large run goes on.

    PYTHONPATH=tests python -m harness.web.weight --seconds 60

It prints, for a workflow with the shape of Montage (2,122 nodes, 6,114 edges) and for one of 10,000
nodes: the time to the first live state, long tasks, the delay of interactions (INP), frames while
the graph is dragged, and the heap. They depend on the machine: nothing is judged here. Build the
dashboard first.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import nats
from playwright.async_api import CDPSession, Page

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.http.browser import browser_context
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess

_EVENTS_PER_S: Final = 500
_BATCH: Final = 10
_MILLION: Final = 1_000_000
_OBSERVE: Final = """
window.weight = { live: null, tasks: [], events: [], frames: [] };
new PerformanceObserver((list) => weight.tasks.push(...list.getEntries().map((e) => e.duration)))
  .observe({ type: "longtask", buffered: true });
new PerformanceObserver((list) =>
  weight.events.push(...list.getEntries().filter((e) => e.interactionId).map((e) => e.duration)))
  .observe({ type: "event", durationThreshold: 16, buffered: true });
new MutationObserver((_, observer) => {
  if (!document.querySelector("[data-node]")) return;
  weight.live = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""
_FORGET: Final = "weight.tasks = []; weight.events = []"
_FRAMES: Final = """
let before = performance.now();
const frame = (now) => {
  weight.frames.push(now - before);
  before = now;
  requestAnimationFrame(frame);
};
requestAnimationFrame(frame);
"""

Nodes = dict[str, dict[str, Any]]


def montage() -> Nodes:
    """Return nodes with the layers of a Montage run: 2,122 nodes, 6,114 edges."""
    images, overlaps, wider = 424, 1269, 608
    nodes: Nodes = {}

    def add(name: str, *needs: str) -> str:
        nodes[name] = {"type": "transform", "with": {"value": 1}, "needs": list(needs)}
        return name

    projects = [add(f"project-{n}") for n in range(images)]
    fits = []
    for n in range(overlaps):
        width = 3 if n < wider else 2
        needs = {projects[(n * 7 + each) % images] for each in range(width)}
        fits.append(add(f"fit-{n}", *sorted(needs)))
    model = add("model", add("concat", *fits))
    backgrounds = [add(f"background-{n}", model, projects[n]) for n in range(images)]
    table = add("table", *backgrounds)
    mosaic = add("mosaic", table, *backgrounds)
    add("view", mosaic)
    return nodes


def layers(count: int = 100, width: int = 100) -> Nodes:
    """Return layers of nodes, each of which needs three of the layer before."""
    return {
        f"n-{layer}-{n}": {
            "type": "transform",
            "with": {"value": 1},
            "needs": [f"n-{layer - 1}-{(n + each) % width}" for each in range(3)] if layer else [],
        }
        for layer in range(count)
        for n in range(width)
    }


def _events(nodes: Nodes, count: int) -> Iterator[Any]:
    """Yield so many events of the steps, in the order of the nodes."""
    progress = max(0, count // len(nodes) - 2)
    for node in nodes:
        yield written.step_started(node)
        for each in range(progress):
            yield written.step_progress(node, 100 * each / progress)
        yield written.step_completed(node, 1)


async def _grow(log: HandWrittenLog, nodes: Nodes, seconds: float) -> float:
    """Append events at their rate; return the rate that was kept."""
    began, done = time.monotonic(), 0
    batch: list[Any] = []
    for event in _events(nodes, round(_EVENTS_PER_S * seconds)):
        batch.append(event)
        if len(batch) < _BATCH:
            continue
        await log.commit(*batch)
        done += len(batch)
        batch.clear()
        if time.monotonic() - began > seconds:
            break
        await asyncio.sleep(max(0.0, began + done / _EVENTS_PER_S - time.monotonic()))
    return done / (time.monotonic() - began)


async def _interact(page: Page, growing: "asyncio.Task[float]") -> None:
    """Click what is drawn, and drag the graph, until the run stands still."""
    box = await page.locator(".board").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] - 30
    for tab in ("Steps", "Events", "Graph"):
        await page.get_by_role("link", name=tab).first.click()
        await page.wait_for_timeout(500)
    await page.evaluate(_FRAMES)
    while not growing.done():
        await page.mouse.move(x, y)
        await page.mouse.down()
        for step in range(20):
            await page.mouse.move(x - step * 10, y - step * 2)
            await page.wait_for_timeout(16)
        await page.mouse.up()
        await page.get_by_role("button", name="Fit the graph").click()
        await page.wait_for_timeout(300)


async def _heap(session: CDPSession) -> float:
    await session.send("HeapProfiler.collectGarbage")
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    used: float = next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize")
    return used / _MILLION


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


async def measure(url: str, log: HandWrittenLog, nodes: Nodes, seconds: float) -> list[str]:
    """Follow a run in Chromium while it grows; return a line for each measurement."""
    async with browser_context() as context:
        page = await context.new_page()
        await page.set_viewport_size({"width": 1440, "height": 900})
        await page.add_init_script(_OBSERVE)
        session = await context.new_cdp_session(page)
        await session.send("Performance.enable")
        growing = asyncio.create_task(_grow(log, nodes, seconds))
        await page.goto(f"{url}/#/runs/{log.execution}")
        await page.locator(".graph[data-ready]").wait_for()
        await page.wait_for_timeout(1_000)
        live = await page.evaluate("weight.live")
        await page.evaluate(_FORGET)
        await _interact(page, growing)
        found = await page.evaluate("weight")
        heap = await _heap(session)
        drawn = await page.locator("[data-node]").count()
    tasks, frames = found["tasks"], found["frames"]
    return [
        f"{await growing:.0f} events/s for {seconds:.0f} s, {drawn} shapes drawn",
        f"first live state      {live:7.0f} ms   (bar: 1000)",
        f"long tasks            {len(tasks):7d}      up to {max(tasks, default=0):.0f} ms (bar: 0)",
        f"INP                   {_share(found['events'], 0.98):7.0f} ms   (bar: 100)",
        f"frames, median        {_share(frames, 0.5):7.0f} ms   (while the graph is dragged)",
        f"frames, 99 % below    {_share(frames, 0.99):7.0f} ms",
        f"heap                  {heap:7.1f} MB   (bar: 150)",
    ]


async def _run(seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(NatsServer(folder))
        api = stack.enter_context(ApiProcess(server.url, folder, max_body_bytes="8388608"))
        client = await nats.connect(server.url)
        for name, nodes in (("montage", montage()), ("layers", layers())):
            edges = sum(len(node["needs"]) for node in nodes.values())
            sys.stdout.write(f"{name}: {len(nodes)} nodes, {edges} edges\n")
            async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
                body = {"nodes": nodes}
                stored = await http.put(f"/api/v1/workflows/{name}", json=body)
            log = HandWrittenLog(client)
            await log.begin(name, stored.raise_for_status().json()["version"])
            for line in await measure(api.url, log, nodes, seconds):
                sys.stdout.write(f"  {line}\n")
        await client.close()


def main() -> None:
    """Measure as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(_run(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
