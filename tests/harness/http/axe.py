"""Accessibility faults of a page, as axe finds them."""

from pathlib import Path
from typing import Any, Final

from playwright.async_api import Page

from harness.processes.required_tools import skip_or_fail

_AXE: Final = Path(__file__).parents[3] / "clients/web/node_modules/axe-core/axe.min.js"
_SERIOUS: Final = """
(rules) => axe.run({resultTypes: ["violations"], ...rules}).then((result) => result.violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => `${each.id}: ${each.nodes.map((node) => node.html).join(" ")}`))
"""


async def load_axe(page: Page) -> None:
    """Load axe into a page; it stays until the page is loaded again."""
    if not _AXE.is_file():
        skip_or_fail("axe-core", "npm ci --prefix clients/web")
    await page.evaluate(_AXE.read_text())


async def serious_faults(page: Page, rules: dict[str, Any]) -> list[str]:
    """Return the faults that are serious or critical, of these rules or of all."""
    found: list[str] = await page.evaluate(_SERIOUS, rules)
    return found
