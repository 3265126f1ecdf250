"""The process that reads the streams of a benchmark, over many connections.

It parses nothing: it counts marks in the bytes, one in each event, so it uses less CPU than any
server that writes them, and it reports its own CPU time as proof. To measure latency it uses the
kernel's time of arrival (SO_TIMESTAMPNS); its own clock would include the time that the last of a
thousand connections waits for its turn in this process.

It reads orders from stdin, one a line, and answers each with a line of JSON.
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
_READ_BYTES: Final = 256 * 1024
_CONNECTS_PER_READ: Final = 100
_POLL_INTERVAL_S: Final = 0.01


class Readers:
    """All connections.

    Args:
        request: the HTTP request that each connection sends.
        port: the port of the server.
        is_timing: whether to record the delay of each event.
    """

    def __init__(self, request: bytes, port: int, *, is_timing: bool) -> None:
        self._request = request
        self._port = port
        self._is_timing = is_timing
        self._channels: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._buffer = bytearray(_READ_BYTES)
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
            if number % _CONNECTS_PER_READ == 0:
                self._read(0.01)

    def take(self, marks: int, timeout: float) -> dict[str, Any]:
        """Read until ``marks`` marks have arrived, or none for ``timeout`` seconds.

        Returns the fields of ``stream_readers.Taken``.
        """
        began, cpu = time.monotonic(), time.process_time()
        last = began
        while self._marks < marks and time.monotonic() < last + timeout:
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
            # A waiting process would cost the server a wake-up with each write, which clients on
            # other machines do not. The kernel records the time anyway.
            time.sleep(_POLL_INTERVAL_S)
            count, timeout = self._count_and_time, 0
        for number, _ in self._poll.poll(timeout):
            self._marks += count(number)

    def _count(self, number: int) -> int:
        size = _not_at_end(os.readv(number, [self._buffer]))
        return self._buffer.count(MARK, 0, size)

    def _count_and_time(self, number: int) -> int:
        piece, ancillary, _, _ = self._channels[number].recvmsg(_READ_BYTES, _ANCILLARY)
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
    """Carry out the orders on stdin: ``connect <count>`` and ``take <marks> <timeout>``."""
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
            case ["take", marks, timeout]:
                taken = readers.take(int(marks), float(timeout))
        sys.stdout.write(json.dumps(taken) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
