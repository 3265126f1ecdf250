"""The process that reads streams of many different topics, one connection for each request.

It counts marks in the bytes, one in each event that the benchmark publishes. A stream is open when
it has received its position, an id without a suffix; a stream that ends before is refused. Latency
is measured with the kernel's time of arrival, as in ``benchmarks.reader_process``.

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

# The time at which an event was published: nanoseconds in a message, or a pipeline's milliseconds.
_MARK: Final = re.compile(rb'(?:~@|"status_update","timestamp":)(\d+)')
_POSITION: Final = re.compile(rb"id: [0-9a-f]+-\d+-\d+\n")
_ID: Final = re.compile(rb"\nid: ([^\n]+)\n")
_DIGITS_OF_MILLISECONDS: Final = 13
_SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")
_ANCILLARY: Final = socket.CMSG_SPACE(_TIMESPEC.size)
_READ_BYTES: Final = 256 * 1024
_CONNECTS_PER_READ: Final = 50
_TAIL_BYTES: Final = 80
_POLL_INTERVAL_S: Final = 0.005


class _Stream:
    """One stream, over one connection at a time."""

    def __init__(self, tenant: str, path: str) -> None:
        self.channel: socket.socket | None = None
        self.last_id = ""
        self.is_opening = True
        self._tail = b""
        self._tenant = tenant
        self._path = path

    def connect(self, port: int) -> socket.socket:
        channel = self.channel = socket.socket()
        channel.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        channel.connect(("127.0.0.1", port))
        head = (
            f"GET {self._path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Organization-ID: {self._tenant}\r\n"
        )
        if self.last_id:
            head += f"Last-Event-ID: {self.last_id}\r\n"
        channel.sendall(f"{head}\r\n".encode())
        channel.setblocking(False)
        self.is_opening, self._tail = True, b""
        return channel

    def take(self, piece: bytes) -> None:
        seen = self._tail + piece
        self._tail = seen[-_TAIL_BYTES:]
        if self.is_opening and _POSITION.search(seen):
            self.is_opening = False

    def leave(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.last_id = (_ID.findall(self._tail) or [b""])[-1].decode()


class Readers:
    """All streams.

    Args:
        port: the port of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: list[_Stream] = []
        self._by_channel: dict[int, _Stream] = {}
        self._opening = 0
        self._refused = 0
        self._poll = select.epoll()
        self._marks = 0
        self._delays = array("d")

    def open(self, paths: list[str], timeout: float) -> dict[str, Any]:
        """Request all paths at once; return when all streams are open or have ended."""
        streams = [_Stream(*line.split(" ")) for line in paths]
        self._streams += streams
        return self._connect(streams, timeout)

    def leave(self) -> dict[str, Any]:
        """Close all connections; return how many streams received no id."""
        self._read()
        for stream in self._streams:
            stream.leave()
        self._by_channel.clear()
        return {"without_id": sum(not stream.last_id for stream in self._streams)}

    def come_back(self, port: int, timeout: float) -> dict[str, Any]:
        """Request all paths again, with the last ids, from the server at another port."""
        self._port, self._refused = port, 0
        return self._connect(self._streams, timeout)

    def _connect(self, streams: list[_Stream], timeout: float) -> dict[str, Any]:
        began = last = time.monotonic()
        self._opening = len(streams)
        for number, stream in enumerate(streams):
            channel = stream.connect(self._port)
            self._by_channel[channel.fileno()] = stream
            self._poll.register(channel.fileno(), select.EPOLLIN)
            if number % _CONNECTS_PER_READ == 0:
                self._read()
        while self._opening and time.monotonic() < began + timeout:
            before = self._opening
            time.sleep(_POLL_INTERVAL_S)
            self._read()
            if self._opening < before:
                last = time.monotonic()
        return {
            "opened": len(streams) - self._opening - self._refused,
            "refused": self._refused,
            "seconds": last - began,
        }

    def take(self, marks: int, timeout: float) -> dict[str, Any]:
        """Read until ``marks`` marks have arrived, or none for ``timeout`` seconds."""
        last = time.monotonic()
        while self._marks < marks and time.monotonic() < last + timeout:
            before = self._marks
            # As in `benchmarks.reader_process`: a waiting process would cost the server wake-ups.
            time.sleep(_POLL_INTERVAL_S)
            self._read()
            if self._marks > before:
                last = time.monotonic()
        taken = {"marks": self._marks, "delays": self._delays.tolist()}
        self._marks = 0
        del self._delays[:]
        return taken

    def _read(self) -> None:
        while ready := self._poll.poll(0):
            for number, _ in ready:
                self._read_one(number)

    def _read_one(self, number: int) -> None:
        stream = self._by_channel[number]
        assert stream.channel is not None
        try:
            piece, ancillary, _, _ = stream.channel.recvmsg(_READ_BYTES, _ANCILLARY)
        except ConnectionError:
            piece, ancillary = b"", []
        was_opening = stream.is_opening
        if piece:
            stream.take(piece)
            self._count(piece, ancillary)
        else:
            self._refused += was_opening
            stream.is_opening = False
            del self._by_channel[number]
            stream.channel.close()
            stream.channel = None
        self._opening -= was_opening and not stream.is_opening

    def _count(self, piece: bytes, ancillary: list[Any]) -> None:
        found = _MARK.findall(piece)
        self._marks += len(found)
        for _, _, data in ancillary:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            came_at = seconds * 1_000_000_000 + nanoseconds
            for text in found:
                unit = 1_000_000 if len(text) == _DIGITS_OF_MILLISECONDS else 1
                self._delays.append((came_at - int(text) * unit) / 1e9)


def main() -> None:
    """Carry out the orders: each the name of a method and its arguments."""
    readers = Readers(int(sys.argv[1]))
    for line in sys.stdin:
        match line.split():
            case ["open", file, timeout]:
                with open(file, encoding="utf-8") as lines:  # noqa: PTH123 - a plain script
                    paths = lines.read().splitlines()
                answer = readers.open(paths, float(timeout))
            case ["take", marks, timeout]:
                answer = readers.take(int(marks), float(timeout))
            case ["leave"]:
                answer = readers.leave()
            case ["come_back", port, timeout]:
                answer = readers.come_back(int(port), float(timeout))
            case _:
                os._exit(2)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
