"""A real browser: Debian's Chromium, driven by Playwright."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator

from playwright.async_api import Page, async_playwright

from harness.installed import absent


@contextlib.asynccontextmanager
async def browser_page() -> AsyncIterator[Page]:
    """Open an empty page; skip the test, or fail it in CI, where there is no Chromium."""
    program = shutil.which("chromium")
    if program is None:
        absent("chromium", "apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            # Chromium refuses to sandbox what root starts.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            yield await browser.new_page()
        finally:
            await browser.close()
