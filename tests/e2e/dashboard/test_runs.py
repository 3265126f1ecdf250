"""The list of runs: the API selects, and the page's address says by what."""

import asyncio
from typing import Final

from playwright.async_api import Page, expect

from harness.http.started_runs import api_of, end_of, start_run
from harness.http.windows import TIMEOUT_MS, browser_windows
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

_LOG: Final = {"nodes": {"say": {"type": "log", "with": {"message": "hi"}}}}
_PAGE: Final = 50


async def test_a_search_finds_runs_beyond_the_first_page(system: TailraceUp) -> None:
    """By text, tag and time. What the controls choose is in the address, and survives a reload."""
    needle = await start_run(system.url, "needle", _LOG, tags=("sharp",))
    await end_of(system.url, needle)
    async with api_of(system.url) as http:
        await start_run(system.url, "hay", _LOG)
        hay = "/api/v1/workflows/hay/runs"
        for _ in range(_PAGE // 10):
            started = await asyncio.gather(*(http.post(hay, json={}) for _ in range(10)))
            assert {each.status_code for each in started} == {202}
    async with browser_windows(system.url) as windows:
        page = await windows.open("runs")
        row = page.locator(f"[data-run='{needle}']")
        await expect(page.locator("[data-run]")).to_have_count(_PAGE)
        await expect(row).to_have_count(0)

        await page.get_by_label("Search runs").fill("needle")
        await page.keyboard.press("Enter")
        await _is_alone(page, needle)
        await page.reload()
        await _is_alone(page, needle)

        await page.get_by_role("link", name="Not only “needle”").click()
        await expect(row).to_have_count(0)
        await page.get_by_label("Tag", exact=True).fill("sharp")
        await page.keyboard.press("Enter")
        await _is_alone(page, needle)
        assert page.url.endswith("#/runs?tag=sharp")

        await page.get_by_label("Created", exact=True).select_option("1h")
        await _is_alone(page, needle)
        await page.get_by_label("Created", exact=True).select_option("between")
        await page.get_by_label("Created before").fill("2020-01-01T00:00")
        await expect(page.get_by_text("No run matches")).to_be_visible()
        await page.get_by_label("Created before").fill("")
        await page.get_by_label("Created from").fill("2020-01-01T00:00")
        await _is_alone(page, needle)
        assert "created_after=20" in page.url


async def test_the_children_of_a_run_are_listed(system: TailraceUp) -> None:
    child = {"type": "workflow", "with": {"id": "child"}}
    await start_run(system.url, "child", _LOG)
    parent = await start_run(system.url, "parents", {"nodes": {"call": child}})
    await end_of(system.url, parent)
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"runs?parent={parent}")
        await expect(page.locator("[data-run]")).to_have_count(1)
        await page.get_by_role("link", name="Not only the child runs").click()
        await expect(page.locator(f"[data-run='{parent}']")).to_be_visible()


async def _is_alone(page: Page, run: str) -> None:
    await expect(page.locator("[data-run]")).to_have_count(1)
    await expect(page.locator(f"[data-run='{run}']")).to_be_visible()
