"""Measure a reload of the page of a run of 10,000 events."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import httpx
from nats.aio.client import Client
from playwright.async_api import Page

from harness.generators import hand_written_log as written
from harness.generators.hand_written_log import HandWrittenLog
from harness.processes.polling import until

EVENTS: Final = 10_000
_NODES: Final = 10
_PER_NODE: Final = EVENTS // _NODES
_BATCH: Final = 250
_BEFORE_STEPS: Final = 2
"""Events of the creation and the start of a run."""
_IS_KEPT: Final = """
([run, total]) => new Promise((resolve) => {
  const opening = indexedDB.open("tailrace");
  opening.onsuccess = () => {
    const heads = opening.result.transaction("runs").objectStore("runs").getAll();
    heads.onsuccess = () => {
      resolve(heads.result.some(({key, count}) => key.endsWith(run) && count === total));
      opening.result.close();
    };
  };
})
"""
_ALONE: Final = "delete globalThis.SharedWorker;"
"""A stream of the page, whose bytes can be counted: not that of a worker."""
_OBSERVE: Final = """
window.shownAt = null;
new MutationObserver((_, observer) => {
  if (!document.querySelector(".where")?.textContent.includes("of %(events)d")) return;
  if (!document.querySelector("[data-node=%(node)s][data-status=running]")) return;
  window.shownAt = performance.now();
  observer.disconnect();
}).observe(document, {childList: true, subtree: true, characterData: true, attributes: true});
"""


@dataclass(frozen=True, slots=True)
class Reload:
    """The measurements of a reload.

    Attributes:
        shown_ms: from the navigation to the state of all events.
        received: bytes of the body of each response of the API, by its path without the query.
    """

    shown_ms: float
    received: dict[str, int]

    @property
    def stream_bytes(self) -> int:
        """The bytes of the stream."""
        return sum(count for path, count in self.received.items() if "/sse/" in path)


def _steps() -> Iterator[Any]:
    for n in range(_NODES):
        yield written.step_started(f"n-{n}")
        for each in range(_PER_NODE - 2):
            yield written.step_progress(f"n-{n}", 100 * each / _PER_NODE)
        yield written.step_completed(f"n-{n}", n)


async def long_run(url: str, client: Client) -> HandWrittenLog:
    """Write a run of 10,000 events whose last step still runs."""
    nodes = {
        f"n-{n}": {
            "type": "transform",
            "with": {"value": 1},
            "needs": [f"n-{n - 1}"] if n else [],
        }
        for n in range(_NODES)
    }
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        stored = await http.put("/api/v1/workflows/reloaded", json={"nodes": nodes})
    log = HandWrittenLog(client)
    await log.begin("reloaded", stored.raise_for_status().json()["version"])
    events = itertools.islice(_steps(), EVENTS - _BEFORE_STEPS)
    while batch := list(itertools.islice(events, _BATCH)):
        await log.commit(*batch)
    return log


async def reload(page: Page, url: str, log: HandWrittenLog) -> Reload:
    """Show a run of ``long_run`` until the page has kept it, reload the page, and end the step.

    The page shows the end of the step only if its stream goes on after what was kept.
    """
    node = f"n-{_NODES - 1}"
    await page.add_init_script(_ALONE)
    await page.add_init_script(_OBSERVE % {"events": EVENTS, "node": node})
    # From a page of the dashboard, a new place would load nothing, and run no script.
    await page.goto("about:blank")
    await page.goto(f"{url}/#/runs/{log.execution}")
    await page.wait_for_function("() => window.shownAt")
    await until(functools.partial(page.evaluate, _IS_KEPT, [log.execution, EVENTS]))
    paths: dict[str, str] = {}
    received: dict[str, int] = {}

    def sent(event: dict[str, Any]) -> None:
        path = event["request"]["url"].removeprefix(url).partition("?")[0]
        if path.startswith("/api/"):
            paths[event["requestId"]] = path
            received.setdefault(path, 0)

    def arrived(event: dict[str, Any]) -> None:
        if event["requestId"] in paths:
            received[paths[event["requestId"]]] += event["dataLength"]

    session = await page.context.new_cdp_session(page)
    session.on("Network.requestWillBeSent", sent)
    session.on("Network.dataReceived", arrived)
    await session.send("Network.enable")
    await page.reload()
    await page.wait_for_function("() => window.shownAt")
    await page.locator(".live.is-success").wait_for()
    await log.commit(written.step_completed(node, 1))
    await page.locator(f"[data-node={node}][data-status=success]").wait_for()
    return Reload(await page.evaluate("window.shownAt"), received)
