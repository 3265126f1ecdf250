"""A reader, an approver and an operator see exactly what they may."""

import re
from typing import Final

import pytest
from playwright.async_api import Locator, Page, expect

from harness.http.secured_system import SecuredSystem
from harness.http.windows import TIMEOUT_MS, browser_windows
from tailrace import Client

expect.set_options(timeout=TIMEOUT_MS)

_READS: Final = "workflows:read executions:read"
_ROLES: Final = {
    "reader": _READS,
    "approver": f"{_READS} executions:write",
    "operator": f"{_READS} executions:write workflows:write operator",
}
_ORGANIZATION: Final = "org-1"
_DECISION: Final = {
    "id": "decision",
    "nodes": {"decide": {"type": "await", "with": {"reason": "approval"}}},
}


def _controls(page: Page, run: str) -> dict[str, list[tuple[Locator, Locator, set[str]]]]:
    """Return by page: a mark of its being complete, a control, and the roles with that control."""
    writers, operator = {"approver", "operator"}, {"operator"}

    def button(name: str | re.Pattern[str]) -> Locator:
        return page.get_by_role("button", name=name)

    listed = page.get_by_role("row").filter(has_text="decision")
    head = page.locator("header .pill[data-status=paused]")
    about = page.get_by_text("What it is about")
    schedules = page.get_by_text("No schedules yet")
    pages = page.get_by_role("navigation", name="Pages")
    return {
        "workflows": [
            (listed, button("Start decision"), writers),
            (listed, page.get_by_role("link", name="New workflow"), operator),
            (listed, pages.get_by_role("link", name="Dead letters"), operator),
        ],
        "workflows/decision?tab=definition": [
            (button("Check"), button("Start a run"), writers),
            (button("Check"), button("Store a new version"), operator),
        ],
        "runs": [(listed, button("Start a run"), writers)],
        f"runs/{run}?step=decide": [
            (head, button("Pause"), writers),
            (head, button(re.compile("^Cancel")), writers),
            (head, button("Approve"), writers),
        ],
        "inbox": [(about, button("Approve"), writers), (about, button("Reject"), writers)],
        "schedules": [(schedules, button("New schedule"), operator)],
        "dead-letters": [
            (page.locator("main .empty"), page.get_by_text("No dead letters"), operator)
        ],
    }


@pytest.mark.timeout(300)
async def test_each_role_sees_exactly_what_it_may(secured: SecuredSystem) -> None:
    with Client(secured.up.url, secured.token(_ORGANIZATION)) as client:
        client.apply(_DECISION)
        run = str(client.run("decision", {})["execution_id"])
        for event in client.events(run):
            if event.type == "execution:paused":
                break
    async with browser_windows(secured.up.url) as windows:
        for role, scope in _ROLES.items():
            token = secured.token(_ORGANIZATION, subject=role, scope=scope)
            page = await windows.open("settings", token)
            # From here on the page knows what the token allows.
            allowed = ", ".join(sorted(scope.split()))
            await expect(page.get_by_text(allowed, exact=True)).to_be_visible()
            for path, controls in _controls(page, run).items():
                await page.evaluate("path => { location.hash = path; }", f"#/{path}")
                for complete, control, roles in controls:
                    await expect(complete.first).to_be_visible()
                    await expect(control).to_have_count(1 if role in roles else 0)
            await page.close()
