"""Receive a child's datagram ``READY=1`` (systemd's sd_notify protocol)."""

import asyncio
import contextlib
import socket
import tempfile
from pathlib import Path
from typing import Final

_MAX_PATH_BYTES: Final = 100
"""An AF_UNIX address holds 104 to 108 bytes, depending on the platform."""


class ReadinessSocket:
    """The socket that one child, and each process that replaces it, reports to.

    Attributes:
        ready: set when the first process has reported.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ready = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        asyncio.get_running_loop().add_reader(self._socket, self._receive)

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if b"READY=1" in self._socket.recv(4096).splitlines():
                self.ready.set()


def socket_folder() -> tempfile.TemporaryDirectory[str]:
    """Create a folder, private to this user, with paths short enough for socket addresses."""
    folder = tempfile.TemporaryDirectory(prefix="tailrace-")
    if len(folder.name) <= _MAX_PATH_BYTES - len("/worker-999"):
        return folder
    folder.cleanup()
    return tempfile.TemporaryDirectory(prefix="tailrace-", dir="/tmp")
