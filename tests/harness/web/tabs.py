"""Tabs of one browser that follow an execution with the web client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, Final

from playwright.async_api import BrowserContext, Page

from harness.http.browser import browser_context
from harness.http.cutting_gateway import CuttingGateway, cutting_gateway
from harness.processes.required_tools import skip_or_fail
from tools.web_packages import WEB, missing_tool

_PAGE: Final = """<!doctype html>
<title>A tab</title>
<script type="module">
  import { createClient } from "/client/index.js";
  const [execution, sharing] = location.search.slice(1).split("&");
  window.client = createClient({ sharing });
  // FNV-1a over the events so far, so that a lost, doubled or exchanged one changes all after it.
  const begin = () => {
    window.ids = [];
    window.hash = 2166136261;
  };
  const add = (text) => {
    for (const char of text) window.hash = Math.imul(window.hash ^ char.charCodeAt(0), 16777619);
  };
  begin();
  window.ledAt = null;
  client.connection.subscribe(() => {
    if (client.connection.get().leads) window.ledAt ??= Date.now();
  });
  client.observe(`execution:${execution}`, {
    reset: begin,
    blocks(blocks) {
      window.ids.push(...blocks.map(({ event, id }) => [event, id]));
      for (const { event, data } of blocks) add(`${event} ${data.data.node_id ?? ""}\n`);
    },
    ended() {},
  });
</script>
"""


def rolled_hash(texts: Iterable[str]) -> int:
    """Return the hash that a tab has after some events, each a line ``<type> <node>``."""
    value = 2166136261
    for byte in "".join(texts).encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


class Tabs:
    """Tabs that follow one execution.

    Attributes:
        gateway: passes their requests on to the API replicas.
    """

    def __init__(self, context: BrowserContext, gateway: CuttingGateway, query: str) -> None:
        self.gateway = gateway
        self._context = context
        self._url = f"http://127.0.0.1:{gateway.port}/?{query}"
        self.pages: list[Page] = []

    async def open(self) -> Page:
        page = await self._context.new_page()
        await page.goto(self._url)
        self.pages.append(page)
        return page

    async def until(self, page: Page, condition: str, arg: Any = None) -> None:
        """Wait until an expression in a page is true."""
        # By a timer: tabs in the background paint no frames.
        await page.wait_for_function(condition, arg=arg, polling=50)

    async def all_have(self, events: int) -> list[list[tuple[str, str]]]:
        """Wait until all tabs have so many events; return (type, id) of those of each tab."""
        for page in self.pages:
            await self.until(page, "(events) => ids.length >= events", events)
        return [await page.evaluate("ids") for page in self.pages]

    async def summary(self, page: Page, events: int) -> tuple[int, int]:
        """Wait until a tab has so many events; return their number and their hash."""
        await self.until(page, "(events) => ids.length >= events", events)
        count, rolled = await page.evaluate("[ids.length, hash >>> 0]")
        return count, rolled

    async def leader(self) -> Page:
        """Wait for a tab that leads."""
        while True:
            for page in self.pages:
                if await page.evaluate("client.connection.get().leads"):
                    return page

    async def take_over(self, ending: Callable[[], Awaitable[None]]) -> float:
        """Return how long after the end of the leading tab another leads, in s, by their clocks.

        Args:
            ending: ends the leading tab, which is none of ``pages`` any more.
        """
        began: float = await self.pages[0].evaluate("Date.now()")
        await ending()
        led: float = await (await self.leader()).evaluate("ledAt")
        return (led - began) / 1000

    async def set_offline(self, is_offline: bool) -> None:
        """Take the network from the tabs, or give it back."""
        await self._context.set_offline(is_offline)

    async def freeze(self, page: Page) -> None:
        """Stop a tab's scripts at their next statement, as if its process were frozen."""
        session = await self._context.new_cdp_session(page)
        paused = asyncio.Event()
        session.once("Debugger.paused", lambda _event: paused.set())
        await session.send("Debugger.enable")
        await session.send("Debugger.pause")
        await paused.wait()

    async def crash(self, page: Page) -> None:
        """Kill a tab's process."""
        crashed = asyncio.Event()
        page.once("crash", lambda _page: crashed.set())
        session = await self._context.new_cdp_session(page)
        # The process that should answer is gone.
        asking = asyncio.ensure_future(session.send("Page.crash"))
        await crashed.wait()
        asking.cancel()


@contextlib.asynccontextmanager
async def tabs(execution: str, sharing: str, *api_ports: int) -> AsyncIterator[Tabs]:
    """Start a browser for tabs that follow an execution.

    Args:
        sharing: how they share streams: ``worker`` or ``locks``.
        api_ports: those of the API replicas.
    """
    missing = missing_tool()
    if missing is not None:
        skip_or_fail("a tool of the web packages", missing)
    build = await asyncio.create_subprocess_exec("npm", "run", "--silent", "build", cwd=WEB)
    assert await build.wait() == 0
    async with cutting_gateway(*api_ports) as gateway, browser_context() as context:
        gateway.page = _PAGE
        gateway.folders["client"] = WEB / "packages/client/dist"
        yield Tabs(context, gateway, f"{execution}&{sharing}")
