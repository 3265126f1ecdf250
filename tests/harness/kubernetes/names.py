"""The DNS server of the cluster: names of Services, and of the pods behind headless ones."""

import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Final, Self

Names = Mapping[str, list[str]]
"""Addresses by name, without the final dot."""

_A: Final = 1
_AAAA: Final = 28
_QUESTION_AT: Final = 12
_ANSWER_FLAGS: Final = 0x8580
"""A response, authoritative, recursion desired and available."""
_NAME_ERROR: Final = 3
_TTL_S: Final = 1


class NameServer:
    """Answers A queries from a function that reads the names of the cluster.

    Args:
        address: where it listens, on port 53.
        names: called for each query.
    """

    def __init__(self, address: str, names: Callable[[], Names]) -> None:
        self._names = names
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, 53))
        self._thread = threading.Thread(target=self._serve, name="names", daemon=True)

    def start(self) -> Self:
        """Answer in a thread."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Close the port."""
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return  # from stop()
            self._socket.sendto(answer(query, self._names()), client)


def answer(query: bytes, names: Names) -> bytes:
    """Return the response to a query with one question."""
    labels, at = [], _QUESTION_AT
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    kind, _ = struct.unpack_from("!HH", query, at + 1)
    question = query[_QUESTION_AT : at + 5]
    found = names.get(".".join(labels).lower())
    addresses = (found or []) if kind == _A else []
    flags = _ANSWER_FLAGS | (_NAME_ERROR if found is None else 0)
    head = query[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0)
    records = b"".join(
        struct.pack("!HHHIH", 0xC000 | _QUESTION_AT, _A, 1, _TTL_S, 4) + socket.inet_aton(address)
        for address in addresses
    )
    return head + question + records
