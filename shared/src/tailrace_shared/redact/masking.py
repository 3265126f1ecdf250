"""Mask the sensitive values of events and documents.

An event lists JSON Pointers to its sensitive values. The log keeps the values, because the engine
needs them; the API masks them before it shows an event.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from tailrace_shared.json_pointer import split_pointer

MASK: Final = "***"
"""The replacement of masked and redacted values."""
SENSITIVE_KEY: Final = b'"sensitive"'
"""An event or commit without these bytes has no sensitive values."""

# The field of each event's data that the pointers start from; None for the data itself.
_MARKED_FIELDS: Final[Mapping[str, str | None]] = {
    "execution:queued": "input",
    "execution:completed": "output",
    "step:completed": "output",
    "step:expanded": "items",
    "step:waiting": "child_input",
    "step:progress": "fields",
    "step:log": "fields",
    "command:requested": None,
}


class _StoredEvent(msgspec.Struct):
    type: str
    data: dict[str, msgspec.Raw]
    timestamp: msgspec.Raw


_decode: Final = msgspec.json.Decoder(_StoredEvent).decode
_decode_pointers: Final = msgspec.json.Decoder(list[str]).decode
_encode: Final = msgspec.json.Encoder().encode


def mask_event(stored: msgspec.Raw) -> msgspec.Raw:
    """Mask the sensitive values of a stored event; without any, return the same object."""
    if SENSITIVE_KEY not in bytes(stored):
        return stored
    event = _decode(stored)
    if "sensitive" not in event.data or event.type not in _MARKED_FIELDS:
        return stored
    pointers = _decode_pointers(event.data["sensitive"])
    field = _MARKED_FIELDS[event.type]
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
    """Return a copy of a JSON value in which the values at the pointers are masked.

    Pointers to missing values are ignored. The empty pointer masks the whole value.
    """
    for pointer in pointers:
        value = _mask_at(value, split_pointer(pointer))
    return value


def _mask_at(value: Any, tokens: Sequence[str]) -> Any:
    if not tokens:
        return MASK
    first, rest = tokens[0], tokens[1:]
    if isinstance(value, dict) and first in value:
        return value | {first: _mask_at(value[first], rest)}
    if isinstance(value, list) and (index := _index(first, len(value))) is not None:
        return [*value[:index], _mask_at(value[index], rest), *value[index + 1 :]]
    return value


def _index(token: str, length: int) -> int | None:
    # `isdecimal` alone would accept digits of other scripts, and `01` is not an index.
    if not (token.isascii() and token.isdecimal()) or (len(token) > 1 and token[0] == "0"):
        return None
    index = int(token) if len(token) < 10 else length
    return index if index < length else None
