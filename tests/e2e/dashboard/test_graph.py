"""The graph of a large workflow: by keys, and piles of any size."""

import re
from typing import Any, Final

import httpx
from playwright.async_api import Page, expect

from harness.http.started_runs import api_of
from harness.http.windows import TIMEOUT_MS, browser_windows
from harness.processes.tailrace_up import TailraceUp

expect.set_options(timeout=TIMEOUT_MS)

_WIDE: Final = 1_269
"""As many steps as the largest pile of Montage."""
_ACTIVE: Final = """
(tree) => tree.querySelector(`#${CSS.escape(tree.getAttribute("aria-activedescendant"))}`)
  ?.textContent
"""
_IS_SEEN: Final = """
() => {
  const [board, box] = [".board", ".board-focus"].map((each) =>
    document.querySelector(each).getBoundingClientRect());
  return box.left >= board.left && box.right <= board.right
    && box.top >= board.top && box.bottom <= board.bottom;
}
"""
_VIEW: Final = """
(({e, f, a}) => [e, f, a].map((each) => Math.round(each * 1000) / 1000))(
  new DOMMatrix(document.querySelector(".board-world").style.transform))
"""


async def test_a_graph_is_read_by_keys_alone(system: TailraceUp) -> None:
    """Each step is reached, with its place among the others, and the view follows it."""
    await _store(system, "wide", _wide(_WIDE))
    async with browser_windows(system.url) as windows:
        page = await windows.open("workflows/wide")
        steps = page.get_by_role("tree", name="Steps")
        await steps.focus()
        await page.keyboard.press("Home")
        first = steps.get_by_role("treeitem").first
        await expect(first).to_have_attribute("aria-setsize", "3")
        await expect(first).to_have_attribute("aria-posinset", "1")
        await page.keyboard.press("ArrowDown")
        assert str(await steps.evaluate(_ACTIVE)).endswith(f"log, {_WIDE} steps")
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowRight")
        item = steps.locator("[aria-level='2']").first
        await expect(item).to_have_attribute("aria-setsize", str(_WIDE))
        await page.keyboard.press("End")
        assert await steps.evaluate(_ACTIVE) == "last, log"
        await expect(page.locator(".board-focus")).to_be_attached()
        assert await page.evaluate(_IS_SEEN)
        assert await steps.get_by_role("treeitem").count() <= 5
        await page.keyboard.press("Enter")
        await expect(page.locator("[data-node=last].selected")).to_be_visible()


async def test_a_pile_of_any_size_opens_as_a_list(system: TailraceUp) -> None:
    """By a click or by Enter; its steps are found by their ids, and reached by keys."""
    await _store(system, "wide", _wide(_WIDE))
    async with browser_windows(system.url) as windows:
        page = await windows.open("workflows/wide")
        await page.locator("[data-node^='pile:']").click()
        listed = page.get_by_role("complementary", name=f"Steps of {_WIDE:,}")
        await expect(listed.get_by_role("status")).to_have_text(f"{_WIDE:,} of {_WIDE:,}")
        assert await page.evaluate("document.querySelector('.node.selected')") is None
        await listed.get_by_label("Filter the steps of the pile").fill("m1234")
        await expect(listed.get_by_role("status")).to_have_text(f"1 of {_WIDE:,}")
        await listed.locator("[data-member=m1234]").click()
        await expect(page).to_have_url(re.compile("m1234"))
        await listed.get_by_label("Filter the steps of the pile").fill("")
        await listed.locator("[data-member=m0]").focus()
        for _ in range(40):
            await page.keyboard.press("ArrowDown")
        await expect(listed.locator("[data-member=m40]")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(listed).to_have_count(0)

        await page.get_by_role("tree", name="Steps").focus()
        await page.keyboard.press("Home")
        await page.keyboard.press("ArrowDown")
        await page.keyboard.press("Enter")
        await expect(listed).to_be_visible()


async def test_the_view_is_panned_and_zoomed_by_keys(system: TailraceUp) -> None:
    await _store(system, "wide", _wide(_WIDE))
    async with browser_windows(system.url) as windows:
        page = await windows.open("workflows/wide")
        await page.locator(".board").focus()
        x, y, zoom = await _view(page)
        await page.keyboard.press("ArrowRight")
        await page.keyboard.press("ArrowDown")
        assert await _view(page) == [round(x - 80, 3), round(y - 80, 3), zoom]
        await page.keyboard.press("0")
        assert await _view(page) == [x, y, zoom]
        await page.keyboard.press("-")
        assert (await _view(page))[2] < zoom
        await page.get_by_role("button", name="Fit the graph").click()
        await page.get_by_role("button", name="Zoom in").click()
        assert (await _view(page))[2] > zoom
        await page.get_by_role("button", name="Zoom out").click()
        assert (await _view(page))[2] == zoom


async def _view(page: Page) -> list[float]:
    """Return by how much the board is moved, and enlarged."""
    found: list[float] = await page.evaluate(_VIEW)
    return found


def _wide(width: int) -> dict[str, Any]:
    say = {"type": "log", "with": {"message": "hi"}}
    middle = [f"m{index}" for index in range(width)]
    nodes = {"first": say} | {each: say | {"needs": ["first"]} for each in middle}
    return {"nodes": nodes | {"last": say | {"needs": middle}}}


async def _store(system: TailraceUp, workflow: str, definition: Any) -> httpx.Response:
    async with api_of(system.url) as http:
        stored = await http.put(f"/api/v1/workflows/{workflow}", json=definition)
        return stored.raise_for_status()
