"""The readers of the stream benchmarks: many connections, read as cheaply as Python can.

A reader takes bytes and counts marks in them, of which each event holds one, and parses nothing;
so it costs less than any server that writes. It tells what it cost, that one may see so. To measure
latency it has the kernel say when bytes came (SO_TIMESTAMPNS), or what it would measure is how
long the last of a thousand connections waits for its turn in this process.

It takes orders as lines, and answers each with a line of JSON.
"""

import argparse
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

MARK: Final = b"~"
_PUBLISHED_AT: Final = re.compile(rb"@(\d+)@")
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")
_ANCILLARY: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_PIECE: Final = 256 * 1024
_WAVE: Final = 100
_LOOK_EVERY: Final = 0.01


class Readers:
    """All connections.

    Args:
        request: what each sends.
        port: where to.
        is_timing: whether to note when each event came.
    """

    def __init__(self, request: bytes, port: int, *, is_timing: bool) -> None:
        self._request = request
        self._port = port
        self._is_timing = is_timing
        self._channels: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._buffer = bytearray(_PIECE)
        self._marks = 0
        self._delays = array("d")

    def connect(self, count: int) -> None:
        """Add connections."""
        for number in range(count):
            channel = socket.socket()
            if self._is_timing:
                channel.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            channel.connect(("127.0.0.1", self._port))
            channel.sendall(self._request)
            channel.setblocking(False)
            self._channels[channel.fileno()] = channel
            self._poll.register(channel.fileno(), select.EPOLLIN)
            if number % _WAVE == 0:
                self._read(0.01)

    def take(self, marks: int, patience: float) -> dict[str, Any]:
        """Read until so many marks have come since the last time, or for so long none.

        Returns how it went.
        """
        began, cpu = time.monotonic(), time.process_time()
        last = began
        while self._marks < marks and time.monotonic() < last + patience:
            before = self._marks
            self._read(0.1)
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

    def _read(self, timeout: float) -> None:
        count = self._count
        if self._is_timing:
            # A process that waits costs the server a wake-up with each write, which clients on
            # other machines do not; the kernel notes the time anyway.
            time.sleep(_LOOK_EVERY)
            count, timeout = self._count_and_time, 0
        for number, _ in self._poll.poll(timeout):
            self._marks += count(number)

    def _count(self, number: int) -> int:
        size = _not_at_end(os.readv(number, [self._buffer]))
        return self._buffer.count(MARK, 0, size)

    def _count_and_time(self, number: int) -> int:
        piece, ancillary, _, _ = self._channels[number].recvmsg(_PIECE, _ANCILLARY)
        _not_at_end(len(piece))
        for _, _, data in ancillary:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            came_at = seconds * 1_000_000_000 + nanoseconds
            for published_at in _PUBLISHED_AT.findall(piece):
                self._delays.append((came_at - int(published_at)) / 1e9)
        return piece.count(MARK)


def _not_at_end(size: int) -> int:
    if not size:
        raise SystemExit("the server has closed a connection")
    return size


def main() -> None:
    """Obey until there are no more orders: ``connect <count>``, ``take <marks> <patience>``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--timing", action="store_true")
    arguments = parser.parse_args()
    request = (
        f"GET {arguments.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    )
    readers = Readers(request.encode(), arguments.port, is_timing=arguments.timing)
    for line in sys.stdin:
        taken: dict[str, Any] = {}
        match line.split():
            case ["connect", count]:
                readers.connect(int(count))
            case ["take", marks, patience]:
                taken = readers.take(int(marks), float(patience))
        sys.stdout.write(json.dumps(taken) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
