"""Request bodies in JSON, read within a size limit and decoded strictly.

A body is refused as soon as it exceeds the limit, not after it has been read. Decoding refuses
everything that JSON parsers treat differently (RFC 8259, sections 4 and 9), because one parser may
act on what another drops: repeated keys, NaN, numbers beyond 64 bits and lone surrogates.
"""

import asyncio
import itertools
import json
import math
import re
from typing import Any, Final, Never, TypeAlias

import msgspec
from starlette.requests import ClientDisconnect, Request

from tailrace_api.web.problems import RefusedError, pointer
from tailrace_shared.workflow.problem_report import Problem, nearest

MAX_DEPTH: Final = 100
MAX_PATH_CHARS: Final = 2048
"""The limit for the keys on the path to a value, because an error about the value repeats them."""
INLINE_BYTES: Final = 64 * 1024
"""Bodies up to this size are decoded on the event loop, larger ones in a thread."""

_MAX_ERRORS: Final = 20
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CLOSE: Final = {"connection": "close"}

# The parent's place, and the key or index in the parent; None is the whole body.
_Place: TypeAlias = "tuple[_Place, str | int] | None"


class Document(msgspec.Struct):
    """A decoded body.

    Attributes:
        value: The decoded value.
        size: The length of the body in bytes.
        duplicates: One problem for each repeated object key, up to a limit.
    """

    value: Any
    size: int
    duplicates: list[Problem] = []


async def read_document(request: Request, limit: int, *, if_empty: Any = None) -> Document:
    """Read and decode the body of a request. The caller handles repeated keys.

    Args:
        if_empty: The value of an empty body; None if a body is required.

    Raises:
        RefusedError: The body is too large, not JSON, or missing.
    """
    body = await _read(request, limit)
    if not body and if_empty is not None:
        return Document(if_empty, 0)
    return decode(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(decode, body)


async def read_object(request: Request, limit: int, *, if_empty: Any = None) -> dict[str, Any]:
    """Read a body that must be an object without repeated keys.

    Raises:
        RefusedError: It is not, or ``read_document`` refuses it.
    """
    document = await read_document(request, limit, if_empty=if_empty)
    if document.duplicates:
        raise RefusedError(422, "the body repeats a key", document.duplicates)
    if not isinstance(document.value, dict):
        raise RefusedError(
            422, "the body is not an object", [Problem("", "the body must be a JSON object")]
        )
    return document.value


def refuse_unknown(body: dict[str, Any], *known: str) -> None:
    """Refuse a body with unknown fields.

    Raises:
        RefusedError: There are unknown fields; the problem suggests the most similar known ones.
    """
    # A body of the maximum size can have 100,000 fields; comparing each would take seconds.
    found = itertools.islice((key for key in body if key not in known), _MAX_ERRORS)
    unknown = [
        Problem(pointer(key), f"unknown field {key[:80]!r}{nearest(key[:80], known)}")
        for key in found
    ]
    if unknown:
        raise RefusedError(422, "the body has unknown fields", unknown)


async def _read(request: Request, limit: int) -> bytes:
    is_form = _is_form(request.headers.get("content-type"))
    length = request.headers.get("content-length", "0")
    # Without content-length the body is chunked, so its size is counted while reading.
    if length.isdecimal() and int(length) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise RefusedError(400, "the body ended early") from None
    if is_form and body and not body.lstrip().startswith((b"{", b"[")):
        raise RefusedError(415, f"send application/json; this body is {_FORM_TYPE}")
    return bytes(body)


def _is_form(content_type: str | None) -> bool:
    """Return whether the content type is a form's, which curl sends by default.

    Raises:
        RefusedError: The content type is neither JSON nor a form's (415).
    """
    kind = (content_type or "").split(";")[0].strip()
    is_form = kind.lower() == _FORM_TYPE
    if content_type is not None and not is_form and not _JSON_TYPE.fullmatch(kind):
        raise RefusedError(415, f"send application/json, not {kind[:100]}", headers=_CLOSE)
    return is_form


def _too_large(limit: int) -> RefusedError:
    # Close the connection: the rest of the body will not be read.
    return RefusedError(413, f"the body is larger than {limit} bytes; send less", headers=_CLOSE)


def decode(body: bytes) -> Document:
    """Decode a body.

    Raises:
        RefusedError: It is not JSON, or JSON that parsers understand differently.
    """
    try:
        return _decode(body.decode(), len(body))
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the body is not UTF-8: byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise RefusedError(
            400, f"malformed JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise _too_deep() from None


def _decode(text: str, size: int) -> Document:
    repeated: list[tuple[dict[str, Any], str]] = []
    longest = 0

    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal longest
        collected = dict(pairs)
        longest = max(longest, *map(len, collected), 0)
        if len(collected) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    repeated.append((collected, key))
                seen.add(key)
        return collected

    value = json.loads(
        text,
        object_pairs_hook=collect,
        parse_int=_integer,
        parse_float=_number,
        parse_constant=_refuse_constant,
    )
    levels = text.count("[") + text.count("{")
    if levels > MAX_DEPTH or levels * longest > MAX_PATH_CHARS:
        _check_depth(value)
    if _SURROGATE.search(text):
        _check_text(value)
    return Document(value, size, _places(value, repeated) if repeated else [])


def _too_deep() -> RefusedError:
    return RefusedError(400, f"the JSON is nested deeper than {MAX_DEPTH} levels")


def _integer(text: str) -> int:
    # The encoder of the log and most clients are limited to 64 bits.
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise RefusedError(400, f"the number {text[:40]} does not fit in 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RefusedError(400, f"the number {text[:40]} is too large")
    return value


def _refuse_constant(name: str) -> Never:
    raise RefusedError(400, f"malformed JSON: {name} is not JSON")


def _check_text(value: Any) -> None:
    try:
        msgspec.json.encode(value)
    except UnicodeEncodeError:
        raise RefusedError(400, "malformed JSON: lone surrogate in a string") from None


def _check_depth(value: Any) -> None:
    stack = [(value, 1, 0)]
    while stack:
        item, depth, length = stack.pop()
        if not isinstance(item, dict | list):
            continue
        if depth > MAX_DEPTH:
            raise _too_deep()
        if isinstance(item, list):
            stack.extend((child, depth + 1, length) for child in item)
            continue
        if item and length + max(map(len, item)) > MAX_PATH_CHARS:
            raise RefusedError(
                400, f"the keys on the path to a value have more than {MAX_PATH_CHARS} characters"
            )
        stack.extend((child, depth + 1, length + len(key)) for key, child in item.items())


def _places(value: Any, repeated: list[tuple[dict[str, Any], str]]) -> list[Problem]:
    # The decoder builds values from the inside out, so places are only known at the end.
    keys: dict[int, list[str]] = {}
    for mapping, key in repeated:
        keys.setdefault(id(mapping), []).append(key)
    found: list[Problem] = []
    # Pointers are built only for reported keys: 100,000 values may share one long key.
    stack: list[tuple[Any, _Place]] = [(value, None)]
    while stack and len(found) < _MAX_ERRORS:
        item, at = stack.pop()
        if isinstance(item, dict):
            found.extend(
                Problem(_pointer((at, key)), f"the key {key[:80]!r} is repeated")
                for key in keys.get(id(item), ())[:_MAX_ERRORS]
            )
            stack.extend((child, (at, key)) for key, child in item.items())
        elif isinstance(item, list):
            stack.extend((child, (at, index)) for index, child in enumerate(item))
    return found


def _pointer(place: _Place) -> str:
    path: list[str | int] = []
    while place is not None:
        place, key = place
        path.append(key)
    return pointer(*reversed(path))
