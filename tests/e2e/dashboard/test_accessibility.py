"""Axe finds nothing serious in any view, in both themes, in forced colours, at any size."""

import re
from typing import Any, Final

import pytest
from playwright.async_api import Locator, Page, Route, expect

from harness.http.axe import load_axe, serious_faults
from harness.http.secured_system import SecuredSystem
from harness.http.started_runs import api_of, end_of, start_run
from harness.http.windows import TIMEOUT_MS, Windows, browser_windows
from harness.nats.buried_job import bury_job
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

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
_MORE: Final = (
    "workflows/purchase-order?tab=runs",
    "workflows/purchase-order?tab=nodes",
    "workflows/purchase-order?tab=definition",
    "workflows/purchase-order?tab=versions",
    "runs?tag=none&created_after=2026-01-01T00:00:00Z",
    "runs/unknown",
    "workflows/unknown",
    "nowhere",
)
_TABS: Final = ("timeline", "steps", "logs", "data", "definition")
_THEMES: Final[dict[str, Any]] = {"dark": {"runOnly": ["color-contrast"]}, "light": {}}
"""The themes, and the rules that a theme can break."""
_FORCED: Final = {"runOnly": ["color-contrast"]}
_SMALL: Final = {"runOnly": ["color-contrast", "scrollable-region-focusable"]}
_WIDTHS: Final = {"200 %": 720, "a phone": 360}
"""Widths in CSS pixels: of a window of 1440 pixels at 200 % zoom, and of a phone."""
_OVERFLOW: Final = """
[document.documentElement, document.querySelector("main")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1)
  .map((each) => `${each.tagName} is wider than the window: ${each.scrollWidth}`)
"""
_AWAIT: Final = {"nodes": {"decide": {"type": "await", "with": {"reason": "approval"}}}}
_SAY: Final = {"type": "log", "with": {"message": "hello"}}
_FAILS: Final = {
    "nodes": {"say": _SAY, "stop": {"type": "fail", "needs": ["say"], "with": {"message": "no"}}}
}
_MANY: Final = 40


async def test_no_page_has_a_serious_fault_in_any_theme_or_width(system: TailraceUp) -> None:
    run = await start_run(system.url, "audited", _AWAIT)
    found: list[str] = []
    async with browser_windows(system.url) as windows:
        page = await windows.open("inbox")
        await expect(page.locator(f"[data-entry='{run}~decide']")).to_have_count(1)
        await load_axe(page)
        for path in (*_PAGES, f"runs/{run}?step=decide", f"runs/{run}?tab=events"):
            await _go(page, path)
            found += await _faults(page, path)
            await page.emulate_media(forced_colors="active")
            faults = await serious_faults(page, _FORCED)
            found += [f"{path} forced colours {each}" for each in faults]
            await page.emulate_media(forced_colors="none")
            for name, width in _WIDTHS.items():
                await page.set_viewport_size({"width": width, "height": 760})
                faults = await serious_faults(page, _SMALL)
                faults += await page.evaluate(_OVERFLOW)
                found += [f"{path} {name} {each}" for each in faults]
            await page.set_viewport_size({"width": 1440, "height": 900})
    assert found == []


async def test_no_tab_and_no_missing_page_has_a_serious_fault(system: TailraceUp) -> None:
    """Also a comparison, a dead letter, and a page that the API fails."""
    first, second = [await start_run(system.url, "compared", _FAILS) for _ in range(2)]
    for run in (first, second):
        await end_of(system.url, run)
    await bury_job(system, "Traceback (most recent call last):\n  ValueError: unknown")
    tabs = tuple(f"runs/{first}?tab={tab}&step=stop" for tab in _TABS)
    found: list[str] = []
    async with browser_windows(system.url) as windows:
        windows.expect_statuses = {404, 503}
        page = await windows.open("runs")
        await load_axe(page)
        for path in (*_MORE, *tabs, f"compare/{first}", f"compare/{first}/{second}"):
            await _go(page, path)
            found += await _faults(page, path)
        await page.locator(".vrow").last.click()
        found += await _faults(page, "compare: a step")
        await _go(page, "dead-letters")
        await page.locator("[data-row]").first.click()
        await expect(page.get_by_label("Traceback").first).to_be_visible()
        found += await _faults(page, "dead-letters: a letter")

        async def fail(route: Route) -> None:
            await route.fulfill(status=503, json={"detail": "NATS does not answer."})

        await page.route("**/api/v1/schedules?*", fail)
        await page.reload()
        await load_axe(page)
        await _go(page, "schedules")
        await expect(page.get_by_role("alert")).to_be_visible()
        found += await _faults(page, "schedules: failed")
    assert found == []


async def test_no_dialog_has_a_serious_fault(system: TailraceUp) -> None:
    failed = await start_run(system.url, "compared", _FAILS)
    await end_of(system.url, failed)
    waits = await start_run(system.url, "audited", _AWAIT)
    wide = {"nodes": {f"n{index}": _SAY for index in range(_MANY)}}
    async with api_of(system.url) as http:
        (await http.put("/api/v1/workflows/wide-dialog", json=wide)).raise_for_status()
        schedule = {"id": "yearly", "workflow_id": "compared", "cron": "@yearly"}
        (await http.post("/api/v1/schedules", json=schedule)).raise_for_status()
    found: list[str] = []
    async with browser_windows(system.url) as windows:
        page = await windows.open("runs")
        await load_axe(page)

        def button(name: str | re.Pattern[str]) -> Locator:
            return page.get_by_role("button", name=name)

        opened = {
            "workflows/purchase-order": button("Start a run"),
            "schedules": button("New schedule"),
            "schedules?backfill": button("Backfill yearly"),
            f"runs/{failed}": button("Rerun…"),
            f"runs/{waits}": button(re.compile("^Cancel")),
        }
        for path, opener in opened.items():
            await _go(page, path)
            await opener.click()
            await expect(page.get_by_role("dialog")).to_be_visible()
            await expect(page.get_by_label("Loading")).to_have_count(0)
            found += await _faults(page, f"{path}: dialog")
            if path.startswith("runs/") and failed in path:
                await page.get_by_label("With another input").check()
                found += await _faults(page, f"{path}: another input")
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_have_count(0)
        await page.locator("body").press("?")
        await expect(page.get_by_role("dialog")).to_be_visible()
        found += await _faults(page, "keys")
        await page.keyboard.press("Escape")
        await _go(page, "workflows/wide-dialog")
        await page.locator("[data-node^='pile:']").click()
        await expect(page.get_by_label("Filter the steps of the pile")).to_be_visible()
        found += await _faults(page, "a pile")
    assert found == []


@pytest.mark.timeout(300)
async def test_the_sign_in_has_no_serious_fault(secured: SecuredSystem) -> None:
    async with browser_windows(secured.up.url) as windows:
        windows.expect_statuses = {401}
        page = await _signed_out(windows)
        await load_axe(page)
        assert await _faults(page, "sign-in") == []


async def _signed_out(windows: Windows) -> Page:
    page = await windows.open("")
    await expect(page.get_by_role("heading", name="Sign in to Tailrace")).to_be_visible()
    return page


async def _go(page: Page, path: str) -> None:
    await page.evaluate("path => { location.hash = path; }", f"#/{path}")
    await expect(page.locator("main :is(h1, .empty, .failure)").first).to_be_visible()
    await expect(page.get_by_label("Loading")).to_have_count(0)


async def _faults(page: Page, name: str) -> list[str]:
    """Return the faults of what the page shows, in both themes."""
    found = []
    for theme, rules in _THEMES.items():
        choose = "theme => { document.documentElement.dataset.theme = theme; }"
        await page.evaluate(choose, theme)
        found += [f"{name} {theme} {each}" for each in await serious_faults(page, rules)]
    return found
