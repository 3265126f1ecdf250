"""Windows of a real browser on the dashboard, which must stay silent."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from typing import Final

from playwright.async_api import BrowserContext, Page, async_playwright

from harness.processes.required_tools import skip_or_fail

TIMEOUT_MS: Final = 90_000
_REFUSED: Final = "Failed to load resource: the server responded with a status of "

_COLLECT_VIOLATIONS: Final = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


class Windows:
    """Windows of one browser.

    Attributes:
        complaints: what the pages wrote to their consoles, and their uncaught errors.
        expect_outage: whether a test stops the API, so that browsers report failed requests.
        expect_refusals: whether a test sends what the API refuses with 422.
        expect_statuses: further statuses of refusals that a test causes.
    """

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.complaints: list[str] = []
        self.expect_outage = False
        self.expect_refusals = False
        self.expect_statuses: set[int] = set()
        self._context = context
        self._url = url

    async def open(self, path: str, token: str | None = None, script: str = "") -> Page:
        """Open a page of the dashboard, such as ``runs``, in a new window, signed in or not.

        Args:
            path: The place of the page.
            token: The token of the window; None for none.
            script: JavaScript that runs before that of the page.
        """
        page = await self._context.new_page()
        if script:
            await page.add_init_script(script)
        if token is not None:
            await page.add_init_script(f"sessionStorage.setItem('tailrace.token', '{token}')")
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        await page.goto(f"{self._url}/#/{path}")
        return page

    async def check(self) -> None:
        """Check that no page complained, and that the policy refused nothing."""
        for page in self._context.pages:
            self.complaints += await page.evaluate("violations")
        reported = ["Failed to load resource: net::ERR_"] if self.expect_outage else []
        statuses = self.expect_statuses | ({422} if self.expect_refusals else set())
        reported += [f"{_REFUSED}{status}" for status in statuses]
        assert [each for each in self.complaints if not each.startswith((*reported,))] == []


@contextlib.asynccontextmanager
async def browser_windows(url: str) -> AsyncIterator[Windows]:
    """Open a browser whose windows must stay silent."""
    program = shutil.which("chromium")
    if program is None:
        skip_or_fail("chromium", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            timeout=TIMEOUT_MS,
            # Chromium refuses to run sandboxed as root.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            context = await browser.new_context(
                viewport={"width": 1440, "height": 900}, reduced_motion="reduce"
            )
            await context.add_init_script(_COLLECT_VIOLATIONS)
            windows = Windows(context, url)
            yield windows
            await windows.check()
        finally:
            await browser.close()
