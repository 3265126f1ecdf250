"""The process that reads streams of many different topics, one connection for each request.

It counts marks in the bytes, one in each event that the benchmark publishes. A stream is open when
it has received its position, an id without a suffix; a stream that ends before is refused. Latency
is measured with the kernel's time of arrival, as in ``reader_process``.

It reads orders from stdin, one a line, and answers each with a line of JSON.
"""

import json
import os
import re
import select
import socket
import struct
import sys
import time
from array import array
from typing import Any, Final

MARK: Final = b"~@"
_PUBLISHED_AT: Final = re.compile(rb"~@(\d+)@")
_POSITION: Final = re.compile(rb"id: [0-9a-f]+-\d+-\d+\n")
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")
_ANCILLARY: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_READ_BYTES: Final = 256 * 1024
_CONNECTS_PER_READ: Final = 50
_TAIL_BYTES: Final = 80
_POLL_INTERVAL_S: Final = 0.005


class SetReaders:
    """All connections.

    Args:
        port: the port of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._channels: dict[int, socket.socket] = {}
        self._opening: dict[int, bytes] = {}
        self._poll = select.epoll()
        self._marks = 0
        self._refused = 0
        self._delays = array("d")

    def open(self, paths: list[str], timeout: float) -> dict[str, Any]:
        """Request all paths at once; return when all streams are open or have ended."""
        began = last = time.monotonic()
        for number, line in enumerate(paths):
            self._connect(*line.split(" "))
            if number % _CONNECTS_PER_READ == 0:
                self._read()
        while self._opening and time.monotonic() < began + timeout:
            before = len(self._opening)
            time.sleep(_POLL_INTERVAL_S)
            self._read()
            if len(self._opening) < before:
                last = time.monotonic()
        return {
            "opened": len(self._channels) - len(self._opening),
            "refused": self._refused,
            "seconds": last - began,
        }

    def _connect(self, tenant: str, path: str) -> None:
        channel = socket.socket()
        channel.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        channel.connect(("127.0.0.1", self._port))
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Organization-ID: {tenant}\r\n\r\n"
        channel.sendall(head.encode())
        channel.setblocking(False)
        number = channel.fileno()
        self._channels[number], self._opening[number] = channel, b""
        self._poll.register(number, select.EPOLLIN)

    def take(self, marks: int, timeout: float) -> dict[str, Any]:
        """Read until ``marks`` marks have arrived, or none for ``timeout`` seconds."""
        began, cpu = time.monotonic(), time.process_time()
        last = began
        while self._marks < marks and time.monotonic() < last + timeout:
            before = self._marks
            # As in reader_process: a waiting process would cost the server wake-ups.
            time.sleep(_POLL_INTERVAL_S)
            self._read()
            if self._marks > before:
                last = time.monotonic()
        taken = {
            "marks": self._marks,
            "seconds": last - began,
            "cpu": time.process_time() - cpu,
            "delays": self._delays.tolist(),
        }
        self._marks = 0
        del self._delays[:]
        return taken

    def _read(self) -> None:
        while ready := self._poll.poll(0):
            for number, _ in ready:
                self._read_one(number)

    def _read_one(self, number: int) -> None:
        try:
            piece, ancillary, _, _ = self._channels[number].recvmsg(_READ_BYTES, _ANCILLARY)
        except ConnectionError:
            piece, ancillary = b"", []
        if not piece:
            self._refused += number in self._opening
            self._opening.pop(number, None)
            self._channels.pop(number).close()
            return
        if number in self._opening:
            seen = self._opening[number] + piece
            self._opening[number] = seen[-_TAIL_BYTES:]
            if _POSITION.search(seen):
                del self._opening[number]
        self._marks += piece.count(MARK)
        for _, _, data in ancillary:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            came_at = seconds * 1_000_000_000 + nanoseconds
            for published_at in _PUBLISHED_AT.findall(piece):
                self._delays.append((came_at - int(published_at)) / 1e9)


def main() -> None:
    """Carry out the orders: ``open <file of paths> <timeout>`` and ``take <marks> <timeout>``."""
    readers = SetReaders(int(sys.argv[1]))
    for line in sys.stdin:
        match line.split():
            case ["open", file, timeout]:
                with open(file, encoding="utf-8") as lines:  # noqa: PTH123 - a plain script
                    paths = lines.read().splitlines()
                answer = readers.open(paths, float(timeout))
            case ["take", marks, timeout]:
                answer = readers.take(int(marks), float(timeout))
            case _:
                os._exit(2)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
