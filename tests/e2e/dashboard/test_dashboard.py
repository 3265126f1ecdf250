"""The dashboard in a real browser, against real processes. No console output, no CSP violation."""

import asyncio
import contextlib
import functools
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.async_api import Page, Route, expect

from harness.http.windows import TIMEOUT_MS, browser_windows
from harness.processes.polling import until
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

_ROOT: Final = Path(__file__).parents[3]
_ORDER: Final = json.loads(
    (_ROOT / "examples/purchase_order/samples/office-furniture.json").read_text()
)
_STATUSES: Final = """
Object.fromEntries([...document.querySelectorAll("[data-node]")]
  .map((node) => [node.dataset.node, node.dataset.status]))
"""
_KEPT: Final = """
(run) => new Promise((resolve) => {
  const opening = indexedDB.open("tailrace");
  opening.onsuccess = () => {
    const heads = opening.result.transaction("runs").objectStore("runs").getAll();
    heads.onsuccess = () => {
      resolve(heads.result.find(({key}) => key.endsWith(run)) ?? null);
      opening.result.close();
    };
  };
})
"""
_IS_KEPT: Final = f"""
async (run) => {{
  const kept = await ({_KEPT})(run);
  return document.querySelector(".where")?.textContent.includes(`of ${{kept?.count}}`);
}}
"""
"""Whether this browser has kept all events of a run that the page shows."""
_PATIENT_AND_ALONE: Final = """
delete globalThis.SharedWorker;
const later = setTimeout;
window.setTimeout = (run, ms, ...rest) => later(run, ms >= 2000 ? ms * 30 : ms, ...rest);
"""
"""Limits that no slow machine reaches, and streams that a test can hold: not those of a worker."""
_OUTAGES: Final = """
delete globalThis.SharedWorker;
const later = setTimeout;
window.limits = 0;
window.setTimeout = (run, ms, ...rest) => {
  if (ms === 1500) limits += 1;
  return later(run, ms === 1500 ? LIMIT : ms, ...rest);
};
window.banners = [];
new MutationObserver(() => document.querySelectorAll(".banner").forEach((each) =>
  banners.push(each.textContent))).observe(document, {childList: true, subtree: true});
"""
"""Let outages be shown after LIMIT milliseconds instead of 1,500, and note what is shown."""


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
    events = {path: asyncio.Event() for path in ("/first", "/second", "/third")}

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


async def test_a_run_is_followed_live_and_survives_cuts(system: TailraceUp) -> None:
    """Steps are idle, run for as long as their request is held, and succeed; without a reload."""
    async with _gate() as (url, events), browser_windows(system.url) as windows:
        nodes = {
            "first": {"type": "http", "with": {"url": f"{url}/first"}},
            "second": {"type": "http", "needs": ["first"], "with": {"url": f"{url}/second"}},
            "third": {"type": "http", "needs": ["second"], "with": {"url": f"{url}/third"}},
        }
        windows.expect_outage = True
        run = await _start(system, "held", {"nodes": nodes}, {})
        # A window without a network has a worker with one.
        page = await windows.open(f"runs/{run}", script="delete globalThis.SharedWorker")
        await _shows(page, first="running", second="pending")
        events["/first"].set()
        await _shows(page, first="success", second="running")

        await page.evaluate("location.hash = '#/streams'")
        await page.get_by_role("button", name="Pull the plug").click()
        events["/second"].set()
        await until(lambda: _runs(system, run, "third"))
        await page.get_by_role("button", name="Plug it in again").click()
        await page.evaluate(f"location.hash = '#/runs/{run}'")
        await _shows(page, first="success", second="success", third="running")

        await page.context.set_offline(True)
        await expect(page.locator(".banner")).to_contain_text("offline")
        events["/third"].set()
        await _ended(system, run)
        await page.context.set_offline(False)
        await _shows(page, first="success", second="success", third="success")
        await expect(page.locator(".banner")).to_have_count(0)
        await expect(page.locator("header .pill[data-status=completed]")).to_be_visible()


@pytest.mark.parametrize(("limit_ms", "is_shown"), [(600_000, False), (0, True)])
async def test_a_page_survives_the_death_of_the_api(
    system: TailraceUp, limit_ms: int, is_shown: bool
) -> None:
    """Without a reload, a missing or doubled event, and a banner for a short outage.

    Limits that every outage is below or above, so that the machine's speed does not matter.
    """
    async with _gate() as (url, events), browser_windows(system.url) as windows:
        windows.expect_outage = True
        nodes = {
            "first": {"type": "http", "with": {"url": f"{url}/first"}},
            "second": {"type": "log", "needs": ["first"], "with": {"message": "done"}},
        }
        run = await _start(system, "outlived", {"nodes": nodes}, {})
        script = _OUTAGES.replace("LIMIT", str(limit_ms))
        page = await windows.open(f"runs/{run}", script=script)
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
        assert await page.evaluate("limits") > 0
        assert bool(await page.evaluate("banners")) == is_shown
        await expect(page.locator(".banner")).to_have_count(0)


async def test_a_reload_goes_on_where_the_page_was(system: TailraceUp) -> None:
    """The page shows what it kept before the stream answers, and receives only what is new."""
    async with _gate() as (url, events), browser_windows(system.url) as windows:
        items = {"for_each": str(list(range(200))), "max_parallel": 50}
        items |= {"do": {"type": "log", "with": {"message": "x" * 200}}}
        nodes = {
            "many": {"type": "map", "with": items},
            "first": {"type": "http", "needs": ["many"], "with": {"url": f"{url}/first"}},
            "second": {"type": "log", "needs": ["first"], "with": {"message": "done"}},
        }
        run = await _start(system, "reloaded", {"nodes": nodes}, {})
        page = await windows.open(f"runs/{run}")
        await _shows(page, many="success", first="running", second="pending")
        await until(functools.partial(page.evaluate, _IS_KEPT, run))
        await page.add_init_script(_PATIENT_AND_ALONE)
        await page.goto("about:blank")
        events["/first"].set()
        document = await _ended(system, run, include_logs=True)

        may_answer = asyncio.Event()
        streams: list[str] = []

        async def hold(route: Route) -> None:
            streams.append(route.request.url)
            await may_answer.wait()
            await route.continue_()

        await page.route("**/api/v1/sse/stream?*", hold)
        received: dict[str, int] = {}
        network = await page.context.new_cdp_session(page)
        network.on("Network.requestWillBeSent", lambda sent: _begin(received, sent))
        network.on("Network.dataReceived", lambda data: _add(received, data))
        await network.send("Network.enable")
        await page.goto(f"{system.url}/#/runs/{run}")
        await _shows(page, many="success", first="running", second="pending")
        kept = await page.evaluate(_KEPT, run)
        may_answer.set()
        await _shows(page, many="success", first="success", second="success")
        total = len(document["logs"])
        await expect(page.get_by_text(f"event {total} of {total}")).to_be_visible()
        assert 0 < sum(received.values()) < len(json.dumps(document["logs"])) / 10
        query = parse_qs(urlsplit(streams[0]).query)
        assert query["since_topics"] == [f"execution:{run}"]
        assert query["since"] == [kept["cursor"]]
        await page.get_by_role("link", name="Events").click()
        await page.get_by_role("button", name="Compare with the log").click()
        await expect(page.get_by_text(f"missing 0 · doubled 0 of {total}")).to_be_visible()


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


async def test_the_editor_shows_a_problem_in_its_line(system: TailraceUp) -> None:
    """Without a click: the API is asked after a pause. Stored versions are drawn and compared."""
    broken = "id: edited\nnodes:\n  greet:\n    type: log\n    with: {message: hi}\n"
    broken += "  bye:\n    type: log\n    needs: [greeet]\n    with: {message: bye}\n"
    async with browser_windows(system.url) as windows:
        windows.expect_refusals = True
        page = await windows.open("workflows/new")
        area = page.get_by_label("Definition in YAML or JSON")
        await area.press("Control+a")
        await page.keyboard.insert_text(broken)
        await expect(page.get_by_label("Problems")).to_contain_text("line 8, column 13")
        await expect(page.locator(".cm-line .cm-lintRange-error")).to_have_text("greeet")
        await expect(page.locator(".cm-gutter-lint .cm-lint-marker-error")).to_be_visible()

        await area.press("Control+a")
        await page.keyboard.insert_text("nodes: {")
        await expect(page.get_by_label("Problems")).to_contain_text("line 1")

        await area.press("Control+a")
        await page.keyboard.insert_text(broken.replace("greeet", "greet"))
        await expect(page.get_by_role("status").get_by_text("Valid")).to_be_visible()
        await page.get_by_role("button", name="Store a new version").click()
        await expect(page.get_by_role("heading", name="edited")).to_be_visible()

        nodes = {
            "greet": {"type": "log", "with": {"message": "hello"}},
            "smile": {"type": "log", "needs": ["greet"], "with": {"message": ":-)"}},
        }
        await _start(system, "edited", {"nodes": nodes}, {})
        await page.evaluate("location.hash = '#/workflows/edited?tab=versions'")
        await expect(page.get_by_label("Nodes that differ")).to_have_text(
            "1 node added: smile · 1 node removed: bye · 1 node changed: greet"
        )
        await expect(page.locator(".diff .second", has_text='"message": "hello"')).to_be_visible()
        await page.evaluate("location.hash = '#/workflows/edited'")
        version = page.get_by_label("Version of the graph")
        await version.select_option(index=0)
        await expect(page.locator("[data-node=smile]")).to_be_visible()
        await version.select_option(index=1)
        await expect(page.locator("[data-node=bye]")).to_be_visible()
        await expect(page.locator("[data-node=smile]")).to_have_count(0)


async def test_the_editor_completes_what_workers_announce(system: TailraceUp) -> None:
    """The types of nodes with their summaries, and the parameters of the type."""
    async with browser_windows(system.url) as windows:
        windows.expect_refusals = True
        page = await windows.open("workflows/new")
        area = page.get_by_label("Definition in YAML or JSON")
        options = page.locator(".cm-tooltip-autocomplete").get_by_role("option")

        async def are_offered() -> bool:
            # The types may be on their way.
            await page.keyboard.press("Control+Space")
            return await options.count() > 0

        await area.press("Control+a")
        await page.keyboard.insert_text("id: completed\nnodes:\n  check:\n    type: po.che")
        await until(are_offered)
        await expect(options).to_have_text(["po.check"])
        summary = page.locator(".cm-completionInfo")
        await expect(summary).to_have_text("List the problems that a buyer would report.")
        await options.click()
        await expect(page.locator(".cm-line", has_text="type: po.check")).to_be_visible()
        await page.keyboard.insert_text("\n    with:\n      ")
        await until(are_offered)
        await expect(options).to_have_text(["orderrequired", "po_numberrequired"])


async def test_a_saved_run_plays_without_a_server(system: TailraceUp, tmp_path: Path) -> None:
    """The file shows what the page showed, at its end and at any event. Its values stay text."""
    value = "</script><script>document.title = 'broken'</script>"
    nodes = {
        "first": {"type": "transform", "with": {"value": "${input.text}"}},
        "second": {"type": "fail", "needs": ["first"], "with": {"message": "no stock"}},
    }
    run = await _start(system, "saved", {"nodes": nodes}, {"text": value})
    document = await _ended(system, run, include_logs=True)
    total = len(document["logs"])
    target = tmp_path / "run.html"
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"runs/{run}")
        await _shows(page, first="success", second="error")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Save the run as a file").click()
        await (await download.value).save_as(target)
        await page.goto(target.as_uri())
        await _shows(page, first="success", second="error")
        await expect(page).to_have_title(re.compile(f"saved {run}"))
        await expect(page.get_by_text(f"event {total} of {total}")).to_be_visible()
        await expect(page.get_by_text("no stock").first).to_be_visible()
        await page.locator("[data-step=first]").click()
        await expect(page.get_by_label("Values")).to_contain_text(value)
        await page.get_by_role("slider", name="Event").press("Home")
        await _shows(page, first="pending", second="pending")


async def test_a_run_is_read_and_decided_by_keys(system: TailraceUp) -> None:
    nodes = {"decide": {"type": "await", "with": {"reason": "approval"}}}
    run = await _start(system, "keys", {"nodes": nodes}, {})
    async with browser_windows(system.url) as windows:
        page = await windows.open("runs?workflow=keys")
        await expect(page.locator(f"[data-run='{run}']")).to_be_visible()
        await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await _shows(page, decide="waiting")
        steps = page.get_by_role("tree", name="Steps")
        for _ in range(60):
            if await steps.evaluate("(tree) => tree === document.activeElement"):
                break
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Step decide")).to_be_visible()
        position = page.locator(".where")
        await expect(position).to_contain_text(re.compile(r"event (\d+) of \1$"))
        await page.keyboard.press(",")
        await expect(page.get_by_role("button", name="Past")).to_be_visible()
        await page.keyboard.press("L")
        await expect(page.get_by_role("button", name="Live")).to_be_visible()

        await page.keyboard.press("g")
        await page.keyboard.press("i")
        ours = page.locator(f"[data-entry='{run}~decide']").get_by_role("button")
        await expect(ours).to_be_visible()
        for _ in range(20):
            if await ours.evaluate("(row) => row === document.activeElement"):
                break
            await page.keyboard.press("j")
        await page.keyboard.press("Enter")
        await expect(ours).to_have_attribute("aria-current", "true")
        await expect(page.get_by_role("button", name="Approve")).to_be_enabled()
        await page.keyboard.press("a")
        await expect(page.get_by_role("list", name="Receipt")).to_contain_text("applied")
    assert (await _ended(system, run))["status"] == "completed"


async def test_the_decision_that_is_shown_stays(system: TailraceUp) -> None:
    """Another one that arrives does not take its place; a decided one shows its receipt."""
    nodes = {"decide": {"type": "await", "with": {"reason": "approval"}}}
    run = await _start(system, "stays", {"nodes": nodes}, {})
    await until(functools.partial(_is_listed, system, run))
    async with browser_windows(system.url) as windows:
        page = await windows.open("inbox")
        entry = page.locator(f"[data-entry='{run}~decide']")
        await expect(entry.locator("[aria-current]")).to_be_visible()
        newer = await _start(system, "stays", {"nodes": nodes}, {})
        await expect(page.locator(f"[data-entry='{newer}~decide']")).to_be_visible()
        await expect(entry.locator("[aria-current]")).to_be_visible()

        async def answer_late(route: Route) -> None:
            answer = await route.fetch()
            await expect(entry).to_have_count(0)
            await route.fulfill(response=answer)

        await page.route("**/resume", answer_late)
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("list", name="Receipt")).to_contain_text("applied")
        await expect(page.get_by_role("link", name="Open the run")).to_have_attribute(
            "href", re.compile(run)
        )
    assert (await _ended(system, run))["status"] == "completed"


async def _start(system: TailraceUp, workflow: str, definition: Any, value: Any) -> str:
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
        path = f"/api/v1/workflows/{workflow}"
        (await http.put(path, json=definition)).raise_for_status()
        started = await http.post(f"{path}/runs", json={"input": value})
        return str(started.raise_for_status().json()["execution_id"])


async def _is_listed(system: TailraceUp, run: str) -> bool:
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
        listed = (await http.get("/api/workflow/paused")).raise_for_status().json()
    return any(each["executionId"] == run for each in listed["pausedWorkflows"])


async def _runs(system: TailraceUp, run: str, node: str) -> bool:
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
        steps = (await http.get(f"/api/v1/executions/{run}")).json()["steps"]
    return any(each["node_id"] == node and each["status"] == "running" for each in steps)


def _begin(received: dict[str, int], sent: dict[str, Any]) -> None:
    if "/sse/stream?" in sent["request"]["url"]:
        received[sent["requestId"]] = 0


def _add(received: dict[str, int], data: dict[str, Any]) -> None:
    if data["requestId"] in received:
        received[data["requestId"]] += data["dataLength"]


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
