"""What nobody is shown: places in events, and in values, that hold sensitive data.

An event says itself which places of its value are sensitive (JSON Pointers). The log keeps the
real values, because the engine works with them; whoever shows an event to people masks it first.
Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tailrace_shared.json_pointer import split_pointer

MASK: Final = "***"
"""What is shown instead."""
SENSITIVE_KEY: Final = b'"sensitive"'
"""Bytes without which an event, or a commit, has no sensitive places."""

# For each event the field of its data that the pointers lead into; None: into the data itself.
_VALUES: Final[Mapping[str, str | None]] = {
    "execution:queued": "input",
    "execution:completed": "output",
    "step:completed": "output",
    "step:expanded": "items",
    "step:waiting": "child_input",
    "step:progress": "fields",
    "step:log": "fields",
    "command:requested": None,
}


class _Marked(msgspec.Struct):
    type: str
    data: dict[str, msgspec.Raw]
    timestamp: msgspec.Raw


_decode: Final = msgspec.json.Decoder(_Marked).decode
_decode_pointers: Final = msgspec.json.Decoder(list[str]).decode
_encode: Final = msgspec.json.Encoder().encode


def mask_event(stored: msgspec.Raw) -> msgspec.Raw:
    """Return a stored event as it may be shown: the very same, unless it has sensitive places."""
    if SENSITIVE_KEY not in bytes(stored):
        return stored
    event = _decode(stored)
    if "sensitive" not in event.data or event.type not in _VALUES:
        return stored
    pointers = _decode_pointers(event.data["sensitive"])
    field = _VALUES[event.type]
    if field is None:
        data = {key: msgspec.json.decode(value) for key, value in event.data.items()}
        event.data = {key: _raw(value) for key, value in mask_value(data, pointers).items()}
    elif field in event.data:
        value = msgspec.json.decode(event.data[field])
        event.data[field] = _raw(mask_value(value, pointers))
    return _raw(event)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))


def mask_value(value: Any, pointers: Iterable[str]) -> Any:
    """Return a JSON value with each of the places replaced; ``value`` stays as it is.

    A place that the value does not have is left out; the empty pointer is all of it.
    """
    for pointer in pointers:
        value = _without(value, split_pointer(pointer))
    return value


def _without(value: Any, tokens: Sequence[str]) -> Any:
    if not tokens:
        return MASK
    first, rest = tokens[0], tokens[1:]
    if isinstance(value, dict) and first in value:
        return value | {first: _without(value[first], rest)}
    if isinstance(value, list) and (index := _index(first, len(value))) is not None:
        return [*value[:index], _without(value[index], rest), *value[index + 1 :]]
    return value


def _index(token: str, length: int) -> int | None:
    # `isdecimal` alone would accept digits of other scripts, and `01` is no index.
    if not (token.isascii() and token.isdecimal()) or (len(token) > 1 and token[0] == "0"):
        return None
    index = int(token) if len(token) < 10 else length
    return index if index < length else None
