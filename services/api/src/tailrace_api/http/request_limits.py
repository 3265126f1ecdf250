"""The HTTP/1.1 protocol with limits for the head and the trailers of a request, and its rules.

The parser accepts more than RFC 9110 and 9112 allow: a request without a host or with two, chunks
in HTTP/1.0, and trailers that look like headers. uvicorn frames responses to HTTP/1.0 in chunks.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from httptools import HttpRequestParser

from tailrace_api.http.deadlines import DeadlineProtocol
from tailrace_api.http.head_limits import Head, HeadLimits, HeadRefusedError

_DEFAULT: Final = HeadLimits()
_PIECE_BYTES: Final = 16 * 1024
_OPTIONAL_WHITESPACE: Final = b" \t"
_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?", re.ASCII
)


class _Unframed(int):
    """The length of a response that ends with its connection, as uvicorn counts it down."""

    def __lt__(self, _other: object) -> bool:
        return False

    def __sub__(self, _other: object) -> "_Unframed":
        return self


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
        self._hosts: list[bytes] = []
        self._is_chunked = False
        self._is_head_complete = False

    def data_received(self, data: bytes) -> None:
        """Parse input in pieces, and check the limits after each."""
        # In pieces: after a callback, it is unknown how much of the input is still buffered.
        for start in range(0, len(data), _PIECE_BYTES):
            if self._is_refused or not self._parse(data[start : start + _PIECE_BYTES]):
                return

    def _parse(self, data: bytes) -> bool:
        self._unread += len(data)
        super().data_received(data)
        # None after the connection was closed or taken over.
        parser: HttpRequestParser | None = self.parser
        if parser is None or self._is_refused:
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
        self._hosts, self._is_chunked, self._is_head_complete = [], False, False

    def on_url(self, url: bytes) -> None:
        self._within_limits(self._counted.url, len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._within_limits(self._counted.header, len(name) + len(value))
        self._unread = 0
        # A trailer must not become a header (RFC 9110, 6.5.1): what it says comes too late.
        if self._is_head_complete:
            return
        value = value.strip(_OPTIONAL_WHITESPACE)
        match name.lower():
            case b"host":
                self._hosts.append(value)
            case b"transfer-encoding":
                self._is_chunked = True
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._is_head_complete = True
        is_old = self.parser.get_http_version() == "1.0"
        self._check_head(is_old=is_old)
        if is_old:
            # RFC 9110, 10.1.1: a client of HTTP/1.0 does not wait for "100 Continue".
            self.expect_100_continue = False
        super().on_headers_complete()
        if is_old and self.cycle is not None:
            # RFC 9112, 6.1: such a client reads no chunks; the response ends with the connection.
            self.cycle.chunked_encoding = False
            self.cycle.expected_content_length = _Unframed()

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

    def _check_head(self, *, is_old: bool) -> None:
        count = len(self._hosts)
        if count > 1 or (not count and not is_old):
            self._reject("the request must have one Host header")
        if count and not _HOST.fullmatch(self._hosts[0]):
            self._reject("the Host header is not the name of a host and a port")
        if self._is_chunked and is_old:
            self._reject("a request of HTTP/1.0 must not have Transfer-Encoding")

    def _reject(self, detail: str) -> NoReturn:
        # The parser replaces the exception with its own.
        self._refusal = HeadRefusedError(400, detail)
        raise self._refusal

    def _within_limits(self, count: Callable[[int], None], size: int) -> None:
        try:
            count(size)
        except HeadRefusedError as error:
            # The parser replaces the exception with its own.
            self._refusal = error
            raise
