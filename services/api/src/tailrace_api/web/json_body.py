"""Request bodies in JSON, read within a size limit and decoded strictly.

A body is refused as soon as it exceeds the limit, not after it has been read. Decoding refuses
everything that JSON parsers treat differently (RFC 8259, sections 4 and 9), because one parser may
act on what another drops: repeated keys, NaN, numbers beyond 64 bits and lone surrogates.

msgspec decodes. What it refuses, and what it takes but is to be refused, is decoded again by
``json``, whose hooks find the place, but cost a call for each object and number.
"""

import itertools
import json
import math
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import msgspec
from starlette.requests import ClientDisconnect, Request

from tailrace_api.web.body_budget import run_in_turn
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
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
# Long integers, and decimals with an exponent below -99, once all digits are zeros. Ten times as
# fast as a regular expression, which would hold the interpreter's lock for as long.
_UNUSUAL_NUMBERS: Final = (b"0" * 19, b"0e-000")
_DIGITS: Final = bytes.maketrans(b"123456789E", b"000000000e")
_CONTAINERS: Final = (dict, list)
_MIN: Final = -(2**63)
_MAX: Final = 2**64 - 1
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")
_ZERO = re.compile(r"-?[0.]+(?:[eE].*)?")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"|[][{}]', re.DOTALL)
_TOO_DEEP: Final = f"the JSON is nested deeper than {MAX_DEPTH} levels"
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
    if len(body) <= INLINE_BYTES:
        return decode(body)
    return await run_in_turn(request, decode, body)


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


def refuse_unknown(body: dict[str, Any], *known: str, within: str = "") -> None:
    """Refuse a body, or an object at the pointer ``within``, with unknown fields.

    Raises:
        RefusedError: There are unknown fields; the problem suggests the most similar known ones.
    """
    # A body of the maximum size can have 100,000 fields; comparing each would take seconds.
    found = itertools.islice((key for key in body if key not in known), _MAX_ERRORS)
    unknown = [
        Problem(within + pointer(key), f"unknown field {key[:80]!r}{nearest(key[:80], known)}")
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
    return RefusedError(
        413,
        f"the body is larger than {limit} bytes (TAILRACE_MAX_BODY_BYTES); send less",
        headers=_CLOSE,
    )


def decode(body: bytes) -> Document:
    """Decode a body.

    Raises:
        RefusedError: It is not JSON, or JSON that parsers understand differently.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return _explain(body)
    keys, depth, longest = _measure(value)
    # msgspec keeps the last of repeated keys.
    repeats = keys != body.count(b":") and keys != _STRING.sub(b"", body).count(b":")
    is_long = depth > MAX_DEPTH or depth * longest > MAX_PATH_CHARS
    if repeats or is_long or (_may_have_unusual_numbers(body) and not _has_usual_numbers(value)):
        return _explain(body)
    return Document(value, len(body))


def _measure(value: Any) -> tuple[int, int, int]:
    """Return the number of keys, the depth, and the number of characters of the longest key."""
    keys = depth = longest = 0
    level: list[Any] = [value] if value.__class__ in _CONTAINERS else []
    while level and depth <= MAX_DEPTH:
        depth += 1
        inner: list[Any] = []
        for item in filter(None, level):
            if item.__class__ is dict:
                keys += len(item)
                longest = max(longest, *map(len, item))
            inner += [child for child in _children(item) if child.__class__ in _CONTAINERS]
        level = inner
    return keys, depth, longest


def _may_have_unusual_numbers(body: bytes) -> bool:
    digits = body.translate(_DIGITS)
    return any(number in digits for number in _UNUSUAL_NUMBERS)


def _has_usual_numbers(value: Any) -> bool:
    """Return whether all integers fit in 64 bits, and no decimal may have become zero."""
    level = [value]
    while level:
        for item in level:
            if item.__class__ is int and not _MIN <= item <= _MAX:
                return False
            if item.__class__ is float and not item:
                return False
        containers = [item for item in level if item.__class__ in _CONTAINERS]
        level = [child for item in containers for child in _children(item)]
    return True


def _children(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _explain(body: bytes) -> Document:
    """Decode a body by ``json``, and raise what is wrong with it, with its place.

    Raises:
        RefusedError: as :func:`decode`.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(400, f"the body is not UTF-8: byte {error.start}") from None
    decoder = _Decoder()
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as error:
        raise RefusedError(
            400, f"malformed JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise _refused(f"{_TOO_DEEP} at {_line_below(text, MAX_DEPTH)}") from None
    repeated = decoder.repeated
    return Document(value, len(body), _places(value, repeated) if repeated else [])


class _NotJson(msgspec.Struct):
    """Placeholder of a refused value, until its place is known."""

    reason: str


class _Decoder:
    """Decodes one text; what is refused is remembered until its place is known."""

    def __init__(self) -> None:
        self.repeated: list[tuple[dict[str, Any], str]] = []
        self.refuses = False
        self._longest = 0

    def decode(self, text: str) -> Any:
        value = json.loads(
            text,
            object_pairs_hook=self._collect,
            parse_int=self._integer,
            parse_float=self._decimal,
            parse_constant=lambda name: self._refuse(f"malformed JSON: {name} is not JSON"),
        )
        levels = text.count("[") + text.count("{")
        if self.refuses or levels > MAX_DEPTH or levels * self._longest > MAX_PATH_CHARS:
            _check_places(value)
        if _SURROGATE.search(text):
            _check_text(value)
        return value

    def _collect(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        collected = dict(pairs)
        self._longest = max(self._longest, *map(len, collected), 0)
        if len(collected) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.repeated.append((collected, key))
                seen.add(key)
        return collected

    def _integer(self, digits: str) -> int | _NotJson:
        # The encoder of the log and most clients are limited to 64 bits.
        if len(digits) > 20 or not _MIN <= (value := int(digits)) <= _MAX:
            return self._refuse(f"the number {digits[:40]} does not fit in 64 bits")
        return value

    def _decimal(self, digits: str) -> float | _NotJson:
        value = float(digits)
        if not math.isfinite(value):
            return self._refuse(f"the number {digits[:40]} is too large")
        if not value and not _ZERO.fullmatch(digits):
            return self._refuse(f"the number {digits[:40]} is too small")
        return value

    def _refuse(self, reason: str) -> _NotJson:
        self.refuses = True
        return _NotJson(reason)


def _check_places(value: Any) -> None:
    """Refuse what was found not to be JSON, deep nesting, and long paths."""
    stack: list[tuple[Any, int, int, _Place]] = [(value, 1, 0, None)]
    while stack:
        item, depth, length, at = stack.pop()
        if isinstance(item, _NotJson):
            raise _refused(item.reason, _pointer(at))
        if depth > MAX_DEPTH:
            raise _refused(_TOO_DEEP, _pointer(at))
        if isinstance(item, dict) and item and length + max(map(len, item)) > MAX_PATH_CHARS:
            raise _refused(
                f"the keys on the path to a value have more than {MAX_PATH_CHARS} characters",
                _pointer(at),
            )
        for key in _reversed_keys(item):
            child = item[key]
            if isinstance(child, dict | list | _NotJson):
                below = length + len(key) if isinstance(key, str) else length
                stack.append((child, depth + 1, below, (at, key)))


def _check_text(value: Any) -> None:
    """Refuse halves of surrogate pairs."""
    stack: list[tuple[Any, _Place]] = [(value, None)]
    while stack:
        item, at = stack.pop()
        if any(map(_HALF.search, [item] if isinstance(item, str) else _texts(item))):
            raise _refused("malformed JSON: lone surrogate in a string", _pointer(at))
        if not isinstance(item, str):
            stack.extend(
                (item[key], (at, key))
                for key in _reversed_keys(item)
                if isinstance(item[key], dict | list | str)
            )


def _reversed_keys(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return reversed(item)
    return reversed(range(len(item))) if isinstance(item, list) else ()


def _texts(item: Any) -> Iterable[str]:
    return item if isinstance(item, dict) else ()


def _refused(reason: str, place: str = "") -> RefusedError:
    return RefusedError(400, reason, [Problem(place, reason)])


def _line_below(text: str, levels: int) -> str:
    """Return the place of the first bracket below a number of levels."""
    depth = 0
    for token in _BRACKET.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > levels:
            line = text.count("\n", 0, token.start()) + 1
            return f"line {line}, column {token.start() - text.rfind(chr(10), 0, token.start())}"
    return "its end"


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
    # A key may have half of a surrogate pair, which a response cannot.
    return pointer(*reversed(path)).encode(errors="backslashreplace").decode()
