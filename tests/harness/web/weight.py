"""Measure the run page of the dashboard while a large run goes on.

    PYTHONPATH=tests python -m harness.web.weight --seconds 60

It prints, for workflows of 50 nodes, of the shape of Montage (2,122 nodes, 6,114 edges) and of
10,000 nodes: the time from the navigation to the first live state (the median of five
browsers without a debugger), long tasks, the delay of interactions (INP), frames while the graph is
dragged, and the heap. For a reload of the page of a run of 10,000 events, it
prints the time from the navigation to its state, and the bytes of the stream and of the API. They
depend on the machine: nothing is judged here. Beside other load a task lasts longer than it
computes, so long tasks are counted by both clocks. Build the dashboard first.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import nats
from nats.aio.client import Client
from playwright.async_api import CDPSession, Page

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.http.browser import browser_context
from harness.nats.server import NatsServer
from harness.processes.api_process import ApiProcess
from harness.web.bare_chromium import BareChromium
from harness.web.reload import Reload, long_run, reload

_EVENTS_PER_S: Final = 500
_BATCH: Final = 10
_MILLION: Final = 1_000_000
_SMALL: Final = 50
_LONG_MS: Final = 50.0
_TRACED: Final = ["disabled-by-default-devtools.timeline", "blink.user_timing"]
_STARTS: Final = 5
_START_S: Final = 10.0
_LIVE: Final = """
window.live = new Promise((resolve) => new MutationObserver((_, observer) => {
  if (!document.querySelector("[data-node]")) return;
  resolve(performance.now());
  observer.disconnect();
}).observe(document, { childList: true, subtree: true }));
"""
_IS_SHOWN: Final = """
new Promise((resolve) => {
  const show = () => requestIdleCallback(() => requestAnimationFrame(resolve));
  if (document.readyState === "complete") show();
  else addEventListener("load", show);
}).then(() => true)
"""
_OBSERVE: Final = """
window.weight = { tasks: [], events: [], frames: [] };
new PerformanceObserver((list) => weight.tasks.push(...list.getEntries().map((e) => e.duration)))
  .observe({ type: "longtask", buffered: true });
new PerformanceObserver((list) =>
  weight.events.push(...list.getEntries().filter((e) => e.interactionId).map((e) => e.duration)))
  .observe({ type: "event", durationThreshold: 16, buffered: true });
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


def rows(count: int = 50, width: int = 5) -> Nodes:
    """Return rows of nodes, each of which needs the one before it."""
    return {
        f"n-{n}": {
            "type": "transform",
            "with": {"value": 1},
            "needs": [f"n-{n - width}"] if n >= width else [],
        }
        for n in range(count)
    }


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


def computed(trace: bytes) -> list[float]:
    """Return the CPU time of each task of the page since its mark ``loaded``, in ms."""
    events = json.loads(trace)["traceEvents"]
    mark = next(each for each in events if each["name"] == "loaded")
    return [
        each["tdur"] / 1000
        for each in events
        if each["name"] == "RunTask"
        and each["tid"] == mark["tid"]
        and each["pid"] == mark["pid"]
        and each["ts"] >= mark["ts"]
        and "tdur" in each
    ]


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


async def first_state(url: str, log: HandWrittenLog, nodes: Nodes) -> float:
    """Return the time from the navigation to the first live state of a run that grows, in ms."""
    async with BareChromium.started() as browser, asyncio.TaskGroup() as tasks:
        # People have their browser open: its own start is not measured.
        await browser.goto(f"{url}/docs")
        await browser.value(_IS_SHOWN)
        await browser.run_in_pages(_LIVE)
        growing = tasks.create_task(_grow(log, nodes, _START_S))
        await browser.goto(f"{url}/#/runs/{log.execution}")
        shown: float = await browser.value("live")
        growing.cancel()
    return shown


async def measure(url: str, log: HandWrittenLog, nodes: Nodes, seconds: float) -> list[str]:
    """Follow a run in Chromium while it grows; return a line for each measurement."""
    async with browser_context() as context:
        page = await context.new_page()
        await page.set_viewport_size({"width": 1440, "height": 900})
        await page.add_init_script(_OBSERVE)
        session = await context.new_cdp_session(page)
        await session.send("Performance.enable")
        growing = asyncio.create_task(_grow(log, nodes, seconds))
        assert context.browser is not None
        await context.browser.start_tracing(page=page, categories=_TRACED)
        await page.goto(f"{url}/#/runs/{log.execution}")
        await page.locator(".graph[data-ready]").wait_for()
        await page.wait_for_timeout(1_000)
        await page.evaluate(_FORGET)
        await page.evaluate("performance.mark('loaded')")
        await _interact(page, growing)
        found = await page.evaluate("weight")
        used = computed(await context.browser.stop_tracing())
        heap = await _heap(session)
        drawn = await page.locator("[data-node]").count()
    tasks, frames = found["tasks"], found["frames"]
    long = sum(each > _LONG_MS for each in used)
    return [
        f"{await growing:.0f} events/s for {seconds:.0f} s, {drawn} shapes drawn",
        f"long tasks            {len(tasks):7d}      up to {max(tasks, default=0):.0f} ms (bar: 0)",
        f"  by CPU time         {long:7d}      up to {max(used, default=0):.0f} ms (bar: 0)",
        f"INP                   {_share(found['events'], 0.98):7.0f} ms   (bar: 100)",
        f"frames, median        {_share(frames, 0.5):7.0f} ms   (while the graph is dragged)",
        f"frames, 99 % below    {_share(frames, 0.99):7.0f} ms",
        f"heap                  {heap:7.1f} MB   (bar: 150)",
    ]


async def _begun(client: Client, workflow: str, version: int) -> HandWrittenLog:
    log = HandWrittenLog(client)
    await log.begin(workflow, version)
    return log


async def _run(seconds: float) -> None:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(NatsServer(folder))
        api = stack.enter_context(ApiProcess(server.url, folder, max_body_bytes="8388608"))
        client = await nats.connect(server.url)
        for name, nodes in (("small", rows()), ("montage", montage()), ("layers", layers())):
            edges = sum(len(node["needs"]) for node in nodes.values())
            sys.stdout.write(f"{name}: {len(nodes)} nodes, {edges} edges\n")
            async with httpx.AsyncClient(base_url=api.url, timeout=60) as http:
                body = {"nodes": nodes}
                stored = await http.put(f"/api/v1/workflows/{name}", json=body)
            version = stored.raise_for_status().json()["version"]
            shown = [
                await first_state(api.url, await _begun(client, name, version), nodes)
                for _ in range(_STARTS)
            ]
            bar = 400 if len(nodes) <= _SMALL else 1_000
            sys.stdout.write(
                f"  first live state      {statistics.median(shown):7.0f} ms   (bar: {bar})\n"
            )
            log = await _begun(client, name, version)
            for line in await measure(api.url, log, nodes, seconds):
                sys.stdout.write(f"  {line}\n")
        log = await long_run(api.url, client)
        async with browser_context() as context:
            found = await reload(await context.new_page(), api.url, log)
        sys.stdout.write(_lines(found))
        await client.close()


def _lines(found: Reload) -> str:
    lines = [
        "reload of a run of 10,000 events",
        f"state                 {found.shown_ms:7.0f} ms   (bar: 200)",
        f"stream                {found.stream_bytes:7d} B    (bar: 5,000)",
        *(f"  {count:7d} B  {path}" for path, count in found.received.items()),
    ]
    return "\n  ".join(lines) + "\n"


def main() -> None:
    """Measure as long as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    asyncio.run(_run(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
