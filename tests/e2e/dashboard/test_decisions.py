"""Decisions in a real browser: offline, in a lost race, and on the page of the run."""

from typing import Any, Final

import httpx
from playwright.async_api import Page, Route, expect

from harness.http.windows import TIMEOUT_MS, browser_windows
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

_WAITING: Final = {"nodes": {"decide": {"type": "await", "with": {"reason": "approval"}}}}
_CONFLICT: Final = "Failed to load resource: the server responded with a status of 409"


async def _start(system: TailraceUp, workflow: str) -> str:
    """Store a workflow with one step that waits, and start a run of it."""
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
        path = f"/api/v1/workflows/{workflow}"
        (await http.put(path, json=_WAITING)).raise_for_status()
        started = await http.post(f"{path}/runs", json={"input": {}})
        return str(started.raise_for_status().json()["execution_id"])


async def _decisions(system: TailraceUp, run: str) -> list[dict[str, Any]]:
    """Return the commands in the log of a run."""
    async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
        answer = await http.get(f"/api/v1/executions/{run}", params={"include_logs": True})
    logs = answer.raise_for_status().json()["logs"]
    return [each["data"] for each in logs if each["type"] == "command:requested"]


async def _is_applied(page: Page) -> None:
    await expect(page.locator("[aria-label=Receipt] [data-done]")).to_have_text(
        ["sent", "in the log", "applied"]
    )


async def test_a_decision_without_a_network_is_kept_and_sent_once(system: TailraceUp) -> None:
    """Its receipt shows nothing as done until the API has answered."""
    run = await _start(system, "offline")
    async with browser_windows(system.url) as windows:
        windows.expect_outage = True
        page = await windows.open(f"runs/{run}?step=decide")
        await expect(page.get_by_role("button", name="Approve")).to_be_enabled()
        await page.context.set_offline(True)
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("The decision is kept in this tab")).to_be_visible()
        await expect(page.locator("[aria-label=Receipt] [data-done]")).to_have_count(0)
        assert await _decisions(system, run) == []
        await page.context.set_offline(False)
        await _is_applied(page)
    assert [each["decision"] for each in await _decisions(system, run)] == ["approved"]


async def test_a_lost_answer_is_no_lost_race(system: TailraceUp) -> None:
    """The request arrives, its answer does not: the same request is sent again."""
    run = await _start(system, "unanswered")
    async with browser_windows(system.url) as windows:
        windows.expect_outage = True
        page = await windows.open(f"inbox?entry={run}~decide")
        keys = []

        async def lose_the_first(route: Route) -> None:
            keys.append(route.request.headers["idempotency-key"])
            answer = await route.fetch()
            if len(keys) == 1:
                await route.abort()
            else:
                await route.fulfill(response=answer)

        await page.route("**/resume", lose_the_first)
        await page.get_by_role("button", name="Approve").click()
        await _is_applied(page)
        assert len(keys) == 2
        assert len({*keys}) == 1
    assert len(await _decisions(system, run)) == 1


async def test_a_lost_race_names_the_winner(system: TailraceUp) -> None:
    run = await _start(system, "race")
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"runs/{run}?step=decide")
        await expect(page.get_by_role("button", name="Approve")).to_be_enabled()

        async def be_late(route: Route) -> None:
            async with httpx.AsyncClient(base_url=system.url, timeout=60) as http:
                path = f"/api/v1/executions/{run}/resume"
                (await http.post(path, json={"decision": "rejected"})).raise_for_status()
            await route.continue_()

        await page.route("**/resume", be_late)
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_text("was first: rejected at")).to_be_visible()
        await expect(page.get_by_role("list", name="Receipt")).to_have_count(0)
        assert any(each.startswith(_CONFLICT) for each in windows.complaints)
        windows.complaints.clear()
    assert [each["decision"] for each in await _decisions(system, run)] == ["rejected"]


async def test_a_resume_that_comes_second_approves_nothing(system: TailraceUp) -> None:
    """A colleague has resumed the run a moment before: its step still waits."""
    run = await _start(system, "resumed")
    path = f"/api/v1/executions/{run}"
    async with (
        browser_windows(system.url) as windows,
        httpx.AsyncClient(base_url=system.url, timeout=60) as http,
    ):
        (await http.post(f"{path}/pause")).raise_for_status()
        page = await windows.open(f"runs/{run}")

        async def be_second(route: Route) -> None:
            (await http.post(f"{path}/resume", json={"only_paused": True})).raise_for_status()
            await route.continue_()

        await page.route("**/resume", be_second)
        await page.get_by_role("button", name="Resume").click()
        await expect(page.get_by_text("it was not paused by a request")).to_be_visible()
        assert any(each.startswith(_CONFLICT) for each in windows.complaints)
        windows.complaints.clear()
    commands = [each["command"] for each in await _decisions(system, run)]
    assert commands == ["pause", "resume"]


async def test_keys_and_the_tab_key_decide_nothing_by_accident(system: TailraceUp) -> None:
    """Not behind a dialog. What was typed stays while the focus moves through the list."""
    runs = [await _start(system, "careful") for _ in range(2)]
    async with browser_windows(system.url) as windows:
        page = await windows.open(f"inbox?entry={runs[0]}~decide")
        chosen, other = (page.locator(f"[data-entry='{run}~decide']") for run in runs)
        await expect(chosen.locator("[aria-current]")).to_be_visible()
        await expect(page.get_by_role("button", name="Approve")).to_be_enabled()
        await page.keyboard.press("?")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.press("a")
        await page.keyboard.press("r")
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)

        value = page.get_by_label("Value in JSON")
        await value.fill('{"comment": "typed"}')
        await other.get_by_role("button").focus()
        await expect(chosen.locator("[aria-current]")).to_be_visible()
        await page.keyboard.press("Enter")
        await expect(other.locator("[aria-current]")).to_be_visible()
        await expect(value).to_have_value("{}")
        await chosen.get_by_role("button").click()
        await expect(value).to_have_value('{\n  "comment": "typed"\n}')
    for run in runs:
        assert await _decisions(system, run) == []
