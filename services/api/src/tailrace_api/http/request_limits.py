"""The HTTP/1.1 protocol for clients that send too much: a head, or trailers, within limits."""

from collections.abc import Callable
from typing import Any, Final

from httptools import HttpRequestParser

from tailrace_api.http.deadlines import DeadlineProtocol
from tailrace_api.http.head_limits import Head, HeadLimits, HeadRefusedError

_DEFAULT: Final = HeadLimits()
_PIECE: Final = 16 * 1024


class BoundedProtocol(DeadlineProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits for what it keeps of a request besides its body.

    Args:
        head_limits: these.
        options: those of `tailrace_api.http.deadlines`, and uvicorn's.
    """

    def __init__(self, *, head_limits: HeadLimits = _DEFAULT, **options: Any) -> None:
        super().__init__(**options)
        self._limits = head_limits
        self._counted = Head(head_limits)
        # Bytes of which the parser has made nothing yet: it may be gathering a header.
        self._unread = 0
        self._refusal: HeadRefusedError | None = None

    def data_received(self, data: bytes) -> None:
        """Take what a client has sent."""
        # In pieces: of one that holds the end of something it is not known what is left.
        for start in range(0, len(data), _PIECE):
            if not self._take(data[start : start + _PIECE]):
                return

    def _take(self, data: bytes) -> bool:
        self._unread += len(data)
        super().data_received(data)
        # None of a connection that is given up, or somebody else's now.
        parser: HttpRequestParser | None = self.parser
        if parser is None:
            return False
        try:
            self._counted.check_unread(self._unread)
        except HeadRefusedError as error:
            self._refuse(error.status, str(error))
            return False
        return True

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._counted, self._unread = Head(self._limits), 0

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._within_limits(self._counted.url, len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer."""
        self._within_limits(self._counted.header, len(name) + len(value))
        self._unread = 0
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Serve a request whose head has come."""
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Learn that all of a request has come."""
        self._unread = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request at which the parser stopped: it is not HTTP, or beyond our limits."""
        if self._refusal:
            self._refuse(self._refusal.status, str(self._refusal))
        else:
            super().send_400_response(msg)

    def _within_limits(self, count: Callable[[int], None], size: int) -> None:
        try:
            count(size)
        except HeadRefusedError as error:
            # The parser hides what stopped it.
            self._refusal = error
            raise
