"""JSON bodies from outside: read within a limit, decoded without surprises.

A body is refused as soon as it is too large, not after it has been read. Decoding is strict where
JSON parsers differ (RFC 8259, section 4 and 9), because what one reader drops another may act
upon: a repeated key, NaN, a number beyond 64 bits and half a surrogate pair are all refused.
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
LONGEST_PATH: Final = 2048
"""Characters of all keys on the way to a value; what is said of each value repeats them."""
INLINE_BYTES: Final = 64 * 1024
"""Bodies up to this size are worked on between two other requests; larger ones in a thread."""

_MOST_NAMED: Final = 20
_JSON_TYPE = re.compile(r"application/(?:[\w.+-]+\+)?json", re.IGNORECASE)
_FORM_TYPE: Final = "application/x-www-form-urlencoded"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CLOSE: Final = {"connection": "close"}

# The place of what a value is in, and its key or index there; None is all of the body.
_Place: TypeAlias = "tuple[_Place, str | int] | None"


class Document(msgspec.Struct):
    """A decoded body.

    Attributes:
        value: what it says.
        size: its length in bytes.
        duplicates: object keys that are given more than once, each with its place; of many some.
    """

    value: Any
    size: int
    duplicates: list[Problem] = []


async def read_document(request: Request, limit: int, *, if_empty: Any = None) -> Document:
    """Read and decode the body of a request; repeated keys are left to the caller.

    Args:
        request: whose body.
        limit: the most bytes that it may have.
        if_empty: what a request without a body means; None if it must have one.

    Raises:
        RefusedError: the body is too large, not JSON, or missing.
    """
    body = await _read(request, limit)
    if not body and if_empty is not None:
        return Document(if_empty, 0)
    return decode(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(decode, body)


async def read_object(request: Request, limit: int, *, if_empty: Any = None) -> dict[str, Any]:
    """Read a body that must be an object in which no key is given twice.

    Raises:
        RefusedError: it is not.
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
    """Refuse a body that has other fields than those known.

    Raises:
        RefusedError: naming them, each with the known field that it is most like.
    """
    # A body of the largest size could hold a hundred thousand; looking at each would take seconds.
    strange = itertools.islice((key for key in body if key not in known), _MOST_NAMED)
    unknown = [
        Problem(pointer(key), f"unknown field {key[:80]!r}{nearest(key[:80], known)}")
        for key in strange
    ]
    if unknown:
        raise RefusedError(422, "the body has unknown fields", unknown)


async def _read(request: Request, limit: int) -> bytes:
    is_form = _is_form(request.headers.get("content-type"))
    length = request.headers.get("content-length", "0")
    # Without content-length the body comes in chunks, and only counting them tells.
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
    """Tell whether a body is called a form: what curl calls all that it is not told to call else.

    Raises:
        RefusedError: it is called something that is no JSON.
    """
    kind = (content_type or "").split(";")[0].strip()
    is_form = kind.lower() == _FORM_TYPE
    if content_type is not None and not is_form and not _JSON_TYPE.fullmatch(kind):
        raise RefusedError(415, f"send application/json, not {kind[:100]}", headers=_CLOSE)
    return is_form


def _too_large(limit: int) -> RefusedError:
    # The rest of the body is still on its way and nobody will read it.
    return RefusedError(413, f"the body is larger than {limit} bytes; send less", headers=_CLOSE)


def decode(body: bytes) -> Document:
    """Decode a body.

    Raises:
        RefusedError: it is not JSON that every reader understands alike.
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
    if levels > MAX_DEPTH or levels * longest > LONGEST_PATH:
        _check_depth(value)
    if _SURROGATE.search(text):
        _check_text(value)
    return Document(value, size, _places(value, repeated) if repeated else [])


def _too_deep() -> RefusedError:
    return RefusedError(400, f"the JSON is nested deeper than {MAX_DEPTH} levels; send it flatter")


def _integer(text: str) -> int:
    # 64 bits are what the log's encoder, and most readers, can hold.
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise RefusedError(400, f"the number {text[:40]} does not fit 64 bits")
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
        raise RefusedError(400, "malformed JSON: half of a surrogate pair in a text") from None


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
        if item and length + max(map(len, item)) > LONGEST_PATH:
            raise RefusedError(
                400,
                f"the keys on the way to a value have more than {LONGEST_PATH} characters; use "
                "shorter ones",
            )
        stack.extend((child, depth + 1, length + len(key)) for key, child in item.items())


def _places(value: Any, repeated: list[tuple[dict[str, Any], str]]) -> list[Problem]:
    # The decoder builds from the inside out, so places are known only when all is there.
    keys: dict[int, list[str]] = {}
    for mapping, key in repeated:
        keys.setdefault(id(mapping), []).append(key)
    found: list[Problem] = []
    # Places are chains of keys until one is told: under a long key there may be a hundred thousand.
    stack: list[tuple[Any, _Place]] = [(value, None)]
    while stack and len(found) < _MOST_NAMED:
        item, at = stack.pop()
        if isinstance(item, dict):
            found.extend(
                Problem(_pointer((at, key)), f"the key {key[:80]!r} is given more than once")
                for key in keys.get(id(item), ())[:_MOST_NAMED]
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
