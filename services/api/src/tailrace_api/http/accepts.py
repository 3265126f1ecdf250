"""Accept the connections that wait behind one that the event loop has accepted.

uvloop accepts one connection in each of its iterations. While thousands of clients connect, an
iteration takes milliseconds, because it serves those that have connected. So the last one would
wait for seconds until it is accepted.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

# In one iteration of the event loop.
_AT_ONCE: Final = 100


class Accepts:
    """Accepts the connections of one listener beside the event loop.

    Args:
        create: creates the protocol of a connection.

    Attributes:
        listener: the listener; None before the server has started.
    """

    def __init__(self, create: Callable[[], asyncio.Protocol]) -> None:
        self.listener: socket.socket | None = None
        self._create = create
        self._is_scheduled = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def note(self) -> None:
        """Note that the event loop has accepted a connection."""
        if self.listener is not None and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._accept_all)

    def _accept_all(self) -> None:
        self._is_scheduled = False
        for _ in range(_AT_ONCE):
            if not self._accept():
                return
        self.note()

    def _accept(self) -> bool:
        """Accept a connection, if one waits."""
        if self.listener is None:
            return False
        try:
            channel, _ = self.listener.accept()
        except OSError:
            return False  # none waits, the listener is closed, or there are no descriptors left
        channel.setblocking(False)
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(self._create, channel))
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return True

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the client has gone; retrieved, or asyncio would log it
