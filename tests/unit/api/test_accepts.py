"""Connections that wait are accepted together, not one in each iteration of the event loop."""

import asyncio
import contextlib
import socket
from typing import Final, cast

import uvloop

from tailrace_api.http.accepts import Accepts

_CLIENTS: Final = 150
# A hundred are accepted in one of them, and each needs a few to be set up.
_ITERATIONS: Final = 30


class _Crowd:
    """A server, and the number of iterations of the loop until all clients were connected."""

    def __init__(self) -> None:
        self.iterations = 0
        self.connected = 0
        self.accepts = Accepts(lambda: _Protocol(self))
        self.all_connected = asyncio.Event()

    def accept(self) -> "_Protocol":
        """Create a protocol as the event loop does."""
        self.accepts.note()
        return _Protocol(self)

    def tick(self) -> None:
        """Count an iteration."""
        if not self.all_connected.is_set():
            self.iterations += 1
            asyncio.get_running_loop().call_soon(self.tick)


class _Protocol(asyncio.Protocol):
    def __init__(self, crowd: _Crowd) -> None:
        self._crowd = crowd

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer, and count the connection."""
        cast("asyncio.WriteTransport", transport).write(b"x")
        self._crowd.connected += 1
        if self._crowd.connected == _CLIENTS:
            self._crowd.all_connected.set()


async def _connect_all() -> int:
    crowd = _Crowd()
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=_CLIENTS))
        listener.setblocking(False)
        # The kernel accepts them for the listener.
        clients = [
            stack.enter_context(socket.create_connection(listener.getsockname()))
            for _ in range(_CLIENTS)
        ]
        crowd.accepts.listener = listener
        server = await loop.create_server(crowd.accept, sock=listener, backlog=_CLIENTS)
        loop.call_soon(crowd.tick)
        async with asyncio.timeout(60):
            await crowd.all_connected.wait()
        answers = {await loop.run_in_executor(None, client.recv, 1) for client in clients}
        assert answers == {b"x"}
        # Closed, as at a shutdown: it accepts no connection, and no task fails.
        listener.close()
        crowd.accepts.note()
        await asyncio.sleep(0)
        server.close()
    return crowd.iterations


def test_connections_that_wait_are_accepted_together() -> None:
    """All of them are served, within a few iterations."""
    assert uvloop.run(_connect_all()) < _ITERATIONS
