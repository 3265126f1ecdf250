"""The outlet that is plain ASGI, for servers that know nothing of ours."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Receive, Send

from tailrace_api.fanout.clients.client_writer import Subscriber
from tailrace_api.sse.chunk import bodies

# A send that takes longer than this is held up by the client.
_PROMPT: Final = 0.05


class PlainOutlet:
    """Writes by ASGI's ``send``, one message at a time; ``receive`` tells that the client has left.

    Args:
        receive: ASGI's.
        send: ASGI's; the head of the response has been sent.
        cut: what cuts the client off, where the server lets us.

    Attributes:
        subscriber: who writes; to be set before anything can happen.
        is_paused: whether what was written before has yet to be sent.
        backlog: how many bytes of it.
    """

    subscriber: Subscriber

    def __init__(self, receive: Receive, send: Send, cut: Callable[[], None]) -> None:
        self.is_paused = False
        self.backlog = 0
        self._receive = receive
        self._send = send
        self._cut = cut
        self._pending: list[bytes] = []
        self._is_ending = False
        self._is_lost = False
        self._written = asyncio.Event()
        self._over = asyncio.Event()

    def write(self, wire: bytes) -> None:
        """Write."""
        self.is_paused = True
        self._add(wire)

    def end(self, wire: bytes) -> None:
        """Write for the last time."""
        self._is_ending = True
        self._add(wire)

    def abort(self) -> None:
        """Cut the client off. Closing would wait for it to take what it does not take."""
        self._cut()
        self._over.set()

    def _add(self, wire: bytes) -> None:
        self._pending.extend(bodies(wire))
        self.backlog += len(wire)
        self._written.set()

    async def run(self, stream: Callable[[], Awaitable[None]]) -> None:
        """Send what ``stream`` writes, while it runs and afterwards, until either side ends it."""
        tasks = [asyncio.create_task(self._pump()), asyncio.create_task(self._watch())]
        try:
            await stream()
            await self._over.wait()
            # Let the server notice, or it would report a response that was never completed.
            await asyncio.sleep(0)
        finally:
            for task in tasks:
                task.cancel()
            self._lose()

    def _lose(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self.subscriber.lost()

    async def _pump(self) -> None:
        try:
            while not (self._is_ending and not self._pending):
                await self._written.wait()
                self._written.clear()
                await self._send_pending()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._over.set()

    async def _send_pending(self) -> None:
        while self._pending:
            body, self._pending = b"".join(self._pending), []
            sending = asyncio.ensure_future(
                self._send({"type": "http.response.body", "body": body, "more_body": True})
            )
            if not (await asyncio.wait([sending], timeout=_PROMPT))[0]:
                self.subscriber.paused()
            await sending
        self.is_paused, self.backlog = False, 0
        self.subscriber.resumed()

    async def _watch(self) -> None:
        # After a disconnect ASGI's send returns as if all were well; only receive tells.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._over.set()
        # Whoever waits for the client waits in vain.
        self._lose()
