"""A page in a real browser: Debian's Chromium, driven by Playwright."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from typing import Final

from playwright.async_api import BrowserContext, Page, async_playwright

from harness.processes.required_tools import skip_or_fail

_TIMEOUT_MS: Final = 90_000


@contextlib.asynccontextmanager
async def browser_context() -> AsyncIterator[BrowserContext]:
    """Start a browser without pages. Without Chromium, skip the test, or fail it in CI."""
    program = shutil.which("chromium")
    if program is None:
        skip_or_fail("chromium", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            timeout=_TIMEOUT_MS,
            # Chromium refuses to run sandboxed as root.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            context = await browser.new_context()
            context.set_default_timeout(_TIMEOUT_MS)
            yield context
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    """Open an empty page. Without Chromium, skip the test, or fail it in CI."""
    async with browser_context() as context:
        yield await context.new_page()
