"""The details of steps, and reruns with another version or input."""

import json
import re
from typing import Any, Final

from playwright.async_api import Page, expect

from harness.http.started_runs import api_of, end_of, start_run
from harness.http.windows import TIMEOUT_MS, browser_windows
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

_SAY: Final = {"type": "log", "with": {"message": "hello ${input.name}"}}
_BROKEN: Final = {"type": "fail", "needs": ["greet"], "with": {"message": "no stock"}}


async def test_a_failed_run_is_repeated_with_a_newer_version(system: TailraceUp) -> None:
    """Only what has not succeeded runs again."""
    broken = {"nodes": {"greet": _SAY, "order": _BROKEN}}
    failed = await start_run(system.url, "fixable", broken, {"name": "Ada"})
    await end_of(system.url, failed)
    fixed = {"nodes": {"greet": _SAY, "order": _SAY | {"needs": ["greet"]}}}
    async with api_of(system.url) as http:
        (await http.put("/api/v1/workflows/fixable", json=fixed)).raise_for_status()
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"runs/{failed}")
        await page.get_by_role("button", name="Rerun…").click()
        sheet = page.get_by_role("dialog", name="Run again")
        await sheet.get_by_label("Run again", exact=True).select_option("failed")
        await expect(sheet).to_contain_text("1 step is kept")
        await sheet.get_by_label("Version").select_option("latest")
        await sheet.get_by_role("button", name="Run again").click()
        rerun = await _opened(page, failed)
        await expect(page.locator("header .pill[data-status=completed]")).to_be_visible()
    document = await end_of(system.url, rerun)
    assert (document["rerun_of"], document["failed_only"]) == (failed, True)
    steps = {each["node_id"]: each for each in document["steps"]}
    assert steps["greet"]["kept_from"] == failed
    assert "kept_from" not in steps["order"]


async def test_a_failed_run_is_repeated_with_another_input(system: TailraceUp) -> None:
    check = {"type": "fail", "when": "input.bad", "with": {"message": "bad"}}
    failed = await start_run(system.url, "picky", {"nodes": {"check": check}}, {"bad": True})
    await end_of(system.url, failed)
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"runs/{failed}")
        await page.get_by_role("button", name="Rerun…").click()
        sheet = page.get_by_role("dialog", name="Run again")
        await sheet.get_by_label("With another input").check()
        area = sheet.get_by_label("Value in JSON")
        assert json.loads(await area.input_value()) == {"bad": True}
        await area.fill('{"bad": false}')
        await sheet.get_by_role("button", name="Run again with this input").click()
        rerun = await _opened(page, failed)
    document = await end_of(system.url, rerun)
    assert (document["status"], document["input"]) == ("completed", {"bad": False})


async def test_a_step_shows_its_input_attempts_and_lines(system: TailraceUp) -> None:
    nodes: dict[str, Any] = {"greet": _SAY, "order": _BROKEN}
    run = await start_run(system.url, "shown", {"nodes": nodes}, {"name": "Ada"})
    await end_of(system.url, run)
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"runs/{run}?step=greet")
        panel = page.get_by_label("Step greet")
        await expect(panel.get_by_label("Input", exact=True)).to_contain_text("hello Ada")
        await expect(panel.get_by_label("Log lines")).to_contain_text("hello Ada")
        attempts = panel.get_by_role("list", name="Attempts").get_by_role("listitem")
        await expect(attempts).to_have_count(1)
        await expect(attempts).to_contain_text(re.compile(r"worker \S+"))
        await page.locator("[data-node=order]").click()
        attempts = page.get_by_label("Step order").get_by_role("list", name="Attempts")
        await expect(attempts).to_contain_text("no stock")


async def _opened(page: Page, before: str) -> str:
    """Wait until the page shows another run; return its id."""
    await expect(page).to_have_url(re.compile(rf"#/runs/(?!{before})[^?]+$"))
    return page.url.rpartition("/")[2]
