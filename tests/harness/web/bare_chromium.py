"""A page in a Chromium without a debugger, for the time of what a page does while it is loaded.

Playwright stops each worker of a page until its driver has seen it, records the stack of each
request, and runs scripts of its own in the page: that page is shown later than a person sees it.
Here the browser gets four commands over a pipe, and one answer is awaited in the page.
"""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any, Final, Self

from harness.processes.required_tools import skip_or_fail

_LIMIT_S: Final = 60.0
_MAX_MESSAGE_BYTES: Final = 1 << 24
_ARGUMENTS: Final = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--window-size=1440,900",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "about:blank",
)
# Chromium reads commands from descriptor 3 and answers on 4; each message ends with a zero byte.
_START: Final = 'exec "$@" 3<&{commands} 4>&{answers}'


class BareChromium:
    """A browser with one page."""

    def __init__(self, reader: asyncio.StreamReader, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._session = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls) -> AsyncIterator[Self]:
        """Start a browser with an empty profile. Without Chromium, skip the test, or fail in CI."""
        program = shutil.which("chromium")
        if program is None:
            skip_or_fail("chromium", "apt-get install chromium")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            commands, writer = os.pipe()
            answered, answers = os.pipe()
            sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
            process = await asyncio.create_subprocess_exec(
                "bash",
                "-c",
                _START.format(commands=commands, answers=answers),
                "chromium",
                program,
                f"--user-data-dir={profile}",
                *sandbox,
                *_ARGUMENTS,
                pass_fds=(commands, answers),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            os.close(commands)
            os.close(answers)
            reader = asyncio.StreamReader(limit=_MAX_MESSAGE_BYTES)
            pipe, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answered, "rb", 0)
            )
            try:
                browser = cls(reader, writer)
                await browser._attach()
                yield browser
                await browser._send("Browser.close")
            finally:
                pipe.close()
                # Without its pipe, the browser ends.
                os.close(writer)
                await process.wait()

    async def run_in_pages(self, script: str) -> None:
        """Run a script in the page before its own ones."""
        await self._send("Page.addScriptToEvaluateOnNewDocument", source=script)

    async def goto(self, url: str) -> None:
        """Begin to load a page."""
        await self._send("Page.navigate", url=url)

    async def value(self, promise: str) -> Any:
        """Return the JSON value of a promise of the page."""
        found = await self._send(
            "Runtime.evaluate", expression=promise, awaitPromise=True, returnByValue=True
        )
        return found["result"].get("value")

    async def _attach(self) -> None:
        targets = (await self._send("Target.getTargets"))["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        found = await self._send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = found["sessionId"]
        await self._send("Page.enable")

    async def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(_LIMIT_S):
            while True:
                answer = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                if answer.get("id") == number:
                    break
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result
