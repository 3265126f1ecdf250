"""A front end: a script in a real browser, behind a gateway that alternates between replicas."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

from playwright.async_api import Page

from harness.http.browser import browser_page
from harness.http.cutting_gateway import CuttingGateway, cutting_gateway

_PAGE: Final = """<!doctype html>
<title>A front end</title>
<script>
  const seen = [];
  const note = (name, event) =>
    seen.push({ name, id: event.lastEventId, data: JSON.parse(event.data) });
</script>
<script>
"""


class FrontEnd:
    """A page whose script calls ``note(name, event)`` from its listeners.

    Attributes:
        gateway: passes its requests on to the API.
    """

    def __init__(self, page: Page, opened: CuttingGateway) -> None:
        self.gateway = opened
        self._page = page

    async def seen(self, name: str = "", *, least: int = 0) -> list[dict[str, Any]]:
        """Wait for ``least`` events and return all noted so far, of one name or of all names."""
        await self._page.wait_for_function(
            "([name, least]) => seen.filter((e) => !name || e.name === name).length >= least",
            arg=[name, least],
        )
        noted: list[dict[str, Any]] = await self._page.evaluate(
            "(name) => seen.filter((e) => !name || e.name === name)", name
        )
        return noted


@contextlib.asynccontextmanager
async def front_end(script: str, *api_ports: int) -> AsyncIterator[FrontEnd]:
    """Open a page that runs a script, with the API replicas on these ports."""
    async with cutting_gateway(*api_ports) as opened, browser_page() as page:
        opened.page = f"{_PAGE}{script}</script>"
        await page.goto(f"http://127.0.0.1:{opened.port}/")
        yield FrontEnd(page, opened)
