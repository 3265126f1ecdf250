"""Decode the body of a response: decompress it, choose its character set, parse JSON.

The work grows with the body, so it belongs into a thread. A server chooses the character set of its
response, and some of Python's codecs take quadratic time (``punycode``) or decode no text at all,
so only the sets in common use are decoded.
"""

import codecs
import zlib
from typing import Any, Final

import msgspec

from tailrace_worker.nodes.node import NodeFailedError

MAX_RESPONSE_BYTES: Final = 192 * 1024
MAX_RECEIVED_BYTES: Final = MAX_RESPONSE_BYTES + 64 * 1024
"""Limit of a compressed body, which may be larger than what it contains."""
# Each member copies the rest of the body.
_MAX_MEMBERS: Final = 1000

# Labels of https://encoding.spec.whatwg.org, and the codecs of Python.
_CHARSETS: Final = {
    **dict.fromkeys(("utf-8", "utf8", "us-ascii", "ascii"), "utf-8"),
    **dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "iso8859-1"), "latin-1"),
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in (2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 15, 16)},
    **{f"windows-{page}": f"cp{page}" for page in range(1250, 1259)},
    "utf-16": "utf-16",
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "utf-32": "utf-32",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "shift_jis": "cp932",
    "euc-jp": "euc-jp",
    "iso-2022-jp": "iso-2022-jp",
    "euc-kr": "cp949",
    "gb2312": "gbk",
    "gbk": "gbk",
    "gb18030": "gb18030",
    "big5": "big5",
}
_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_encoding(encoding: str) -> bool:
    """Return whether a body is compressed.

    Raises:
        NodeFailedError: it is encoded in another way than gzip.
    """
    if encoding not in {"identity", "gzip", "x-gzip"}:
        raise NodeFailedError(
            f"the response has an unsupported encoding: {encoding!r}", retryable=False
        )
    return encoding != "identity"


def decode_body(
    received: bytes, media_type: str, charset: str | None, *, is_compressed: bool
) -> Any:
    """Return a body: the value if it is JSON, else a text.

    Args:
        received: the body as it was received, at most ``MAX_RECEIVED_BYTES``.
        media_type: in lower case and without parameters.
        charset: the character set that the server named.

    Raises:
        NodeFailedError: the body is too large, or ends too early.
        zlib.error: it is not compressed as the server says.
    """
    body = _inflate(received) if is_compressed else received
    if len(body) > MAX_RESPONSE_BYTES:
        raise too_large()
    codec = _CHARSETS.get((charset or "").strip().lower(), "utf-8")
    if media_type == "application/json" or media_type.endswith("+json"):
        for candidate in _json_codecs(body, codec):
            try:
                return msgspec.json.decode(
                    body if candidate == "utf-8" else body.decode(candidate).encode()
                )
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue
    return body.decode(codec, errors="replace")


def too_large() -> NodeFailedError:
    return NodeFailedError(
        f"the response is larger than {MAX_RESPONSE_BYTES} bytes", retryable=False
    )


def _json_codecs(body: bytes, named: str) -> list[str]:
    """Return the codecs in which JSON may be encoded, the most probable first.

    JSON is UTF-8, also if ``charset`` says otherwise (RFC 8259), but not every server knows that.
    """
    for mark, codec in _BYTE_ORDER_MARKS:
        if body.startswith(mark):
            return [codec]
    # The first two characters of JSON are ASCII (RFC 4627, section 3).
    if body[:1] == b"\0":
        return ["utf-16-be"]
    if body[1:2] == b"\0":
        return ["utf-16-le"]
    return ["utf-8"] if named == "utf-8" else ["utf-8", named]


def _inflate(received: bytes) -> bytes:
    """Decompress gzip, which may consist of several members (RFC 1952)."""
    inflated = bytearray()
    rest, members = received, 0
    # Padding with zeros may follow the last member.
    while rest.strip(b"\0"):
        members += 1
        if members > _MAX_MEMBERS:
            raise NodeFailedError(
                f"the response is compressed in more than {_MAX_MEMBERS} members", retryable=False
            )
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        # Bounded: 64 KiB may become 64 MiB (CWE-409).
        inflated += inflater.decompress(rest, MAX_RESPONSE_BYTES + 1 - len(inflated))
        if len(inflated) > MAX_RESPONSE_BYTES:
            raise too_large()
        if not inflater.eof:
            raise NodeFailedError("the response ends in the middle of its compressed body")
        rest = inflater.unused_data
    return bytes(inflated)
