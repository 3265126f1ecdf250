"""Write streams by plain ASGI, for servers without the extension for direct writes."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.types import Receive, Send

from tailrace_api.fanout.clients.connection import ClientConnection
from tailrace_api.sse.chunk import bodies

# A client is slow if a send takes longer than this.
_PROMPT_SEND_S: Final = 0.05


class PlainWriter:
    """Writes by ASGI's ``send``, one message at a time; ``receive`` reports a disconnect.

    Args:
        send: ASGI's ``send``; the head of the response has been sent.
        abort: closes the connection at once, where the server allows that.

    Attributes:
        connection: the connection that writes; the caller sets it right after construction.
    """

    connection: ClientConnection

    def __init__(self, receive: Receive, send: Send, abort: Callable[[], None]) -> None:
        self.is_paused = False
        self.backlog = 0
        self._receive = receive
        self._send = send
        self._abort = abort
        self._pending: list[bytes] = []
        self._is_ending = False
        self._is_lost = False
        self._written = asyncio.Event()
        self._over = asyncio.Event()

    def write(self, wire: bytes) -> None:
        self.is_paused = True
        self._add(wire)

    def end(self, wire: bytes, *, reusable: bool) -> None:
        del reusable  # the server decides
        self._is_ending = True
        self._add(wire)

    def abort(self) -> None:
        """Close at once; a normal close would wait until the client has taken everything."""
        self._abort()
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
            # Let the server process the end, or it would report an incomplete response.
            await asyncio.sleep(0)
        finally:
            for task in tasks:
                task.cancel()
            self._set_lost()

    def _set_lost(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            self.connection.on_lost()

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
            if not (await asyncio.wait([sending], timeout=_PROMPT_SEND_S))[0]:
                self.connection.on_paused()
            await sending
        self.is_paused, self.backlog = False, 0
        self.connection.on_resumed()

    async def _watch(self) -> None:
        # After a disconnect ASGI's send still succeeds; only receive reports it.
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._over.set()
        # Wakes a stream that waits for the client.
        self._set_lost()
