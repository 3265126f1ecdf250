r"""The encoder of ``text/event-stream`` blocks; nothing else in Tailrace writes SSE syntax.

A block is lines of ``field: value`` and an empty line. The format has no escapes: CR, LF and CRLF
end a line at any place, and a NUL makes a client ignore an id. If a value with one of them reached
the wire, its author could inject fields (CWE-93). Each line of data becomes a ``data`` field; from
all other values these characters are removed.

A client removes one space after the colon, so one is always written: a value that begins with a
space keeps it.

Every block has data: several libraries hand out a block without data as an event, and their users
fail to parse it. So ``retry`` is a line that becomes part of the next block, comments are single
lines, and a position comes with an event of its own.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

import re
from typing import Final

_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOT_IN_A_FIELD: Final = str.maketrans("", "", "\r\n\0")


def event(data: bytes, *, name: str = "", event_id: str = "") -> bytes:
    """Return a block that dispatches an event: a ``message``, unless it has a name.

    The id comes last. Some clients (``@microsoft/fetch-event-source``) store it when they read its
    line, not when the event is dispatched. If such a client is disconnected in between, it would
    resume after an event that it never received.
    """
    head = b"event: " + _field(name) + b"\n" if name else b""
    tail = b"\nid: " + _field(event_id) if event_id else b""
    # Compact JSON has no line ends, so stored events are written unchanged.
    if b"\n" in data or b"\r" in data:
        data = b"\ndata: ".join(_LINE_END.split(data))
    return head + b"data: " + data + tail + b"\n\n"


def position(event_id: str) -> bytes:
    """Return a block that moves the client's last event id; clients have no listener for it."""
    return event(b"{}", name="stream:position", event_id=event_id)


def comment(text: str) -> bytes:
    """Return a line that clients ignore; it shows clients and proxies that the stream is alive.

    No empty line follows: ``@microsoft/fetch-event-source`` and r3labs/sse would dispatch an event
    without data.
    """
    return b": " + _field(text) + b"\n"


def retry(milliseconds: int) -> bytes:
    """Return a line that sets the client's reconnect delay; it belongs to the next block, if any.

    Clients apply it when they read the line, so it also works at the end of a stream.
    """
    return b"retry: %d\n" % max(milliseconds, 0)


def _field(text: str) -> bytes:
    return text.translate(_NOT_IN_A_FIELD).encode(errors="replace")
