"""The documentation page in a real browser, under its own policy."""

from harness.http.browser import browser_page
from harness.http.populated_api import PopulatedApi


async def test_a_browser_renders_the_page_without_errors(
    open_api: PopulatedApi,
) -> None:
    """Styles apply, operations open, and links lead to types."""
    async with browser_page() as page:
        complaints: list[str] = []
        requested: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{open_api.url}/docs")
        border = "getComputedStyle(document.querySelector('details')).borderTopStyle"
        assert await page.evaluate(border) == "solid"
        operation = page.locator("#post_workflows_by_workflow_id_runs")
        await operation.locator("summary").click()
        await operation.locator("pre").wait_for(state="visible")
        assert "curl -X POST" in await operation.locator("pre").inner_text()
        await operation.get_by_role("link", name="StartRun").click()
        await page.wait_for_url("**/docs#type-StartRun")
        await page.locator("#type-StartRun").wait_for(state="visible")
    assert complaints == []
    # Browsers request an icon from every site.
    assert {url for url in requested if not url.endswith("favicon.ico")} == {
        f"{open_api.url}/docs",
    }
