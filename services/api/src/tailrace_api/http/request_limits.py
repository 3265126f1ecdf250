"""The HTTP/1.1 protocol with limits for the head and the trailers of a request."""

from collections.abc import Callable
from typing import Any, Final

from httptools import HttpRequestParser

from tailrace_api.http.deadlines import DeadlineProtocol
from tailrace_api.http.head_limits import Head, HeadLimits, HeadRefusedError

_DEFAULT: Final = HeadLimits()
_PIECE_BYTES: Final = 16 * 1024


class BoundedProtocol(DeadlineProtocol):
    """uvicorn's HTTP/1.1 protocol, with limits for everything it buffers except the body.

    Args:
        options: the options of `tailrace_api.http.deadlines` and uvicorn's.
    """

    def __init__(self, *, head_limits: HeadLimits = _DEFAULT, **options: Any) -> None:
        super().__init__(**options)
        self._limits = head_limits
        self._counted = Head(head_limits)
        # Bytes since the last callback of the parser: it may be buffering a header.
        self._unread = 0
        self._refusal: HeadRefusedError | None = None

    def data_received(self, data: bytes) -> None:
        """Parse input in pieces, and check the limits after each."""
        # In pieces: after a callback, it is unknown how much of the input is still buffered.
        for start in range(0, len(data), _PIECE_BYTES):
            if not self._parse(data[start : start + _PIECE_BYTES]):
                return

    def _parse(self, data: bytes) -> bool:
        self._unread += len(data)
        super().data_received(data)
        # None after the connection was closed or taken over.
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
        super().on_message_begin()
        self._counted, self._unread = Head(self._limits), 0

    def on_url(self, url: bytes) -> None:
        self._within_limits(self._counted.url, len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._within_limits(self._counted.header, len(name) + len(value))
        self._unread = 0
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Reset the buffered bytes: body parts are not buffered here."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unread = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer a request at which the parser stopped: it is not HTTP, or exceeds a limit."""
        if self._refusal:
            self._refuse(self._refusal.status, str(self._refusal))
        else:
            super().send_400_response(msg)

    def _within_limits(self, count: Callable[[int], None], size: int) -> None:
        try:
            count(size)
        except HeadRefusedError as error:
            # The parser replaces the exception with its own.
            self._refusal = error
            raise
