"""Encode Python values as JSON without changing them silently.

msgspec writes NaN and infinity as ``null``, and integers of any size, which most readers of JSON
cannot hold. What it can encode includes dataclasses, Structs and sets.
"""

import dataclasses
import math
from typing import Any, Final, NamedTuple

import msgspec

from tailrace_shared.json_pointer import join_pointer

MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1
MAX_DEPTH: Final = 100
"""Levels of nesting: every service must be able to decode a value within its own call stack."""

_TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep"
# All integers of at most 18 digits fit in 64 bits.
_LONG_NUMBER: Final = b"0" * 19
# Ten times as fast as a regular expression, which would hold the interpreter's lock in a text of
# megabytes for as long.
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
# The lock can be passed on after each piece of this size.
_PIECE_BYTES: Final = 64 * 1024
_CONTAINERS: Final = frozenset({dict, list, tuple})
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})

_encode: Final = msgspec.json.Encoder().encode


class NotJsonError(ValueError):
    """A value cannot be represented in JSON; the message says where and why."""


def encode_json(value: Any) -> bytes:
    """Encode a value within the limits of the API: integers of 64 bits, 100 levels.

    Raises:
        NotJsonError: the value, or a part of it, is not JSON.
    """
    encoded = encode_finite(value)
    if _has_long_number(encoded):
        _raise_for(value, integers=True)
    # Few values have enough brackets to be too deep.
    if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH:
        _check_depth(value, encoded)
    return encoded


def json_text(value: Any) -> str:
    """Return a text as it is, and any other value as JSON: ``true``, not ``True``.

    Raises:
        NotJsonError: the value, or a part of it, is not JSON.
    """
    return value if isinstance(value, str) else encode_json(value).decode()


def encode_finite(value: Any) -> bytes:
    """Encode a value whose integers may have any size.

    Raises:
        NotJsonError: the value, or a part of it, is not JSON.
    """
    try:
        encoded = _encode(value)
        # Most values need no second look.
        if b"null" in encoded:
            _raise_for(value, integers=False)
    except NotJsonError:
        raise
    # The attributes and hooks of a user's class may raise anything.
    except Exception as error:  # noqa: BLE001
        raise NotJsonError(f"{_reason(error)}{_at(_place(value))}") from None
    return encoded


def _has_long_number(encoded: bytes) -> bool:
    if len(encoded) <= _PIECE_BYTES:
        return _LONG_NUMBER in encoded.translate(_DIGITS)
    overlap = len(_LONG_NUMBER) - 1
    return any(
        _LONG_NUMBER in encoded[start : start + _PIECE_BYTES + overlap].translate(_DIGITS)
        for start in range(0, len(encoded), _PIECE_BYTES)
    )


class _Survey(NamedTuple):
    """The properties of a value that consists of plain JSON.

    Attributes:
        depth: levels of containers.
        is_finite: whether no number is NaN or infinite.
        is_narrow: whether all integers fit in 64 bits.
    """

    depth: int
    is_finite: bool
    is_narrow: bool


def _survey(value: Any) -> _Survey | None:
    """Return the properties of plain JSON; None if the value has other types.

    It takes no copy of the value, and lets other threads run.
    """
    depth, is_finite, is_narrow = 0, True, True
    level = [value]
    while level:
        containers = []
        for part in level:
            for child in part.values() if type(part) is dict else part:
                kind = type(child)
                if kind in _CONTAINERS:
                    containers.append(child)
                elif kind is float:
                    is_finite = is_finite and math.isfinite(child)
                elif kind is int:
                    is_narrow = is_narrow and MIN_INTEGER <= child <= MAX_INTEGER
                elif kind not in _SCALARS:
                    return None
        depth, level = depth + 1, containers
    return _Survey(depth - 1, is_finite, is_narrow)


def _check_depth(value: Any, encoded: bytes) -> None:
    survey = _survey([value])
    if survey is not None and survey.depth <= MAX_DEPTH:
        return
    try:
        level = [msgspec.json.decode(encoded)]
    except RecursionError:
        raise NotJsonError(_TOO_DEEP) from None
    value = level[0]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    deep = next((part for part in level if isinstance(part, dict | list)), None)
    if deep is not None:
        raise NotJsonError(f"{_TOO_DEEP}{_at(_path_to(deep, value))}")


def _path_to(wanted: Any, value: Any) -> str:
    pending: list[tuple[str, Any]] = [("", value)]
    while pending:
        pointer, part = pending.pop()
        if part is wanted:
            return pointer
        if isinstance(part, dict | list):
            pending += [(join_pointer(pointer, key), each) for key, each in _members(part)]
    return ""


def _raise_for(value: Any, *, integers: bool) -> None:
    """Raise for a number in a value that JSON cannot hold, if there is one."""
    survey = _survey([value])
    if survey is not None and (survey.is_narrow if integers else survey.is_finite):
        return
    builtins = msgspec.to_builtins(value, str_keys=True, enc_hook=_decode_raw)
    pending: list[tuple[str, Any]] = [("", builtins)]
    while pending:
        pointer, part = pending.pop()
        match part:
            case bool() | str():
                pass
            case dict() | list() | tuple():
                pending += [(join_pointer(pointer, key), each) for key, each in _members(part)]
            case float() if not math.isfinite(part):
                raise NotJsonError(f"{part}{_at(pointer)} is not a JSON number")
            case int() if integers and not MIN_INTEGER <= part <= MAX_INTEGER:
                raise NotJsonError(f"the integer{_at(pointer)} does not fit in 64 bits")


def _members(part: Any) -> list[tuple[Any, Any]]:
    if isinstance(part, dict):
        return list(part.items())
    if isinstance(part, (list, tuple, set, frozenset)):
        return list(enumerate(part))
    if isinstance(part, msgspec.Struct):
        return [(name, getattr(part, name, None)) for name in part.__struct_fields__]
    if dataclasses.is_dataclass(part):
        names = [field.name for field in dataclasses.fields(part)]
        return [(name, getattr(part, name, None)) for name in names]
    return []


def _place(value: Any) -> str:
    """Return the JSON Pointer to the innermost part of a value that cannot be encoded."""
    pointer = ""
    try:
        for _ in range(MAX_DEPTH):
            key, value = next(each for each in _members(value) if not _is_json(dict([each])))
            if not _is_json({key: None}):
                break
            pointer = join_pointer(pointer, key)
    # No part is to blame alone, or a user's class has raised something.
    except Exception:  # noqa: BLE001
        return pointer
    return pointer


def _is_json(part: Any) -> bool:
    try:
        _encode(part)
    except Exception:  # noqa: BLE001 - the caller reports the place
        return False
    return True


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply to encode"
    if isinstance(error, UnicodeEncodeError):
        return "half of a surrogate pair"
    return str(error) or type(error).__name__


def _decode_raw(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _at(pointer: str) -> str:
    return f" at {pointer}" if pointer else ""
