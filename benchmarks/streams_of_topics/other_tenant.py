"""Requests of a tenant without streams, while those of others open and receive events."""

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_INTERVAL_S: Final = 0.1
_TIMEOUT_S: Final = 30.0


class OtherTenant:
    """Stores a workflow every 100 ms.

    Attributes:
        delays: of the requests so far, in seconds.
        failed: how many of them failed.
    """

    def __init__(self) -> None:
        self.delays: list[float] = []
        self.failed = 0

    @asynccontextmanager
    async def storing(self, url: str) -> AsyncIterator[None]:
        """Send requests meanwhile."""
        task = asyncio.create_task(self._run(f"{url}/api/v1/workflows/probe"))
        try:
            yield
        finally:
            task.cancel()

    async def _run(self, url: str) -> None:
        while True:
            began = time.monotonic()
            try:
                await asyncio.to_thread(_put, url)
            except OSError:
                self.failed += 1
            self.delays.append(time.monotonic() - began)
            await asyncio.sleep(_INTERVAL_S)


def _put(url: str) -> None:
    body = json.dumps({"id": "probe", "nodes": {"n": {"type": "log", "with": {"message": "m"}}}})
    request = urllib.request.Request(
        url,
        body.encode(),
        {"Content-Type": "application/json", "X-Organization-ID": "other"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        answer.read()
