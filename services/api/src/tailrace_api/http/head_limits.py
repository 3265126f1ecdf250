"""Limits of a request's head. Pure.

httptools buffers request lines and headers of any size. Without limits, a client that never stops
sending would exhaust the memory of the process before any route sees the request.
"""

from typing import Final, NamedTuple

MAX_HEADERS: Final = 100


class HeadLimits(NamedTuple):
    """The limits of a request's head.

    Attributes:
        url_bytes: bytes of the target, including the query.
        header_bytes: bytes of all headers, including their names.
    """

    url_bytes: int = 16 * 1024
    header_bytes: int = 32 * 1024
    headers: int = MAX_HEADERS


class HeadRefusedError(Exception):
    """A head that exceeds a limit."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Head:
    """Counts the head of one request, including trailers after its body.

    Every method raises ``HeadRefusedError`` when the head exceeds a limit.
    """

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._url = self._headers = self._count = 0

    def url(self, count: int) -> None:
        """Count bytes of the target."""
        self._url += count
        if self._url > self._limits.url_bytes:
            raise HeadRefusedError(
                414,
                f"the URL is longer than {self._limits.url_bytes} bytes (TAILRACE_MAX_URL_BYTES); "
                "ask for less in one request",
            )

    def header(self, count: int) -> None:
        """Count a header with the given number of bytes."""
        self._headers += count
        self._count += 1
        self.check_unread(0)
        if self._count > self._limits.headers:
            raise HeadRefusedError(
                431, f"the request has more than {self._limits.headers} headers; send fewer"
            )

    def check_unread(self, count: int) -> None:
        """Check bytes that the parser has buffered but not parsed into a header yet."""
        if self._headers + count > self._limits.header_bytes:
            raise HeadRefusedError(
                431,
                f"the headers are larger than {self._limits.header_bytes} bytes "
                "(TAILRACE_MAX_HEADER_BYTES); send less in them",
            )
