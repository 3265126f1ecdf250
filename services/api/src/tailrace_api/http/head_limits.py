"""The head of a request: how large it may be before anybody looks at it. Pure.

httptools gathers request lines and headers of any size; whoever sends without an end would fill the
memory of the process, and no route would ever hear of it.
"""

from typing import Final, NamedTuple

MOST_HEADERS: Final = 100


class HeadLimits(NamedTuple):
    """What a request may begin with.

    Attributes:
        url_bytes: bytes of its target, the query included.
        header_bytes: bytes of all its headers, their names included.
        headers: how many of them.
    """

    url_bytes: int = 16 * 1024
    header_bytes: int = 32 * 1024
    headers: int = MOST_HEADERS


class HeadRefusedError(Exception):
    """A head that is not within its limits.

    Attributes:
        status: of the answer.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Head:
    """Counts the head of one request, and what may come as headers after its body.

    Args:
        limits: what it may have.
    """

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._url = self._headers = self._count = 0

    def url(self, count: int) -> None:
        """Count bytes of the target.

        Raises:
            HeadRefusedError: it has more than it may.
        """
        self._url += count
        if self._url > self._limits.url_bytes:
            raise HeadRefusedError(
                414,
                f"the URL is longer than {self._limits.url_bytes} bytes; ask for less in one "
                "request",
            )

    def header(self, count: int) -> None:
        """Count a header of so many bytes.

        Raises:
            HeadRefusedError: there are more, or more bytes of them, than there may be.
        """
        self._headers += count
        self._count += 1
        self.check_unread(0)
        if self._count > self._limits.headers:
            raise HeadRefusedError(
                431, f"the request has more than {self._limits.headers} headers; send fewer"
            )

    def check_unread(self, count: int) -> None:
        """Check whether so many bytes, of which no header is made yet, may be some.

        Raises:
            HeadRefusedError: with those that there are, they are too many.
        """
        if self._headers + count > self._limits.header_bytes:
            raise HeadRefusedError(
                431,
                f"the headers are larger than {self._limits.header_bytes} bytes; send less in them",
            )
