"""Encode Python values as JSON without changing them silently.

msgspec writes NaN and infinity as ``null``, and integers of any size, which most readers of JSON
cannot hold. What it can encode includes dataclasses, Structs and sets.
"""

import math
import re
from typing import Any, Final

import msgspec

from tailrace_shared.json_pointer import join_pointer

MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1
# All integers of at most 18 digits fit in 64 bits.
_LONG_NUMBER: Final = re.compile(rb"\d{19}")

_encode: Final = msgspec.json.Encoder().encode


class NotJsonError(ValueError):
    """A value cannot be represented in JSON; the message says where and why."""


def encode_json(value: Any) -> bytes:
    """Encode a value whose integers must fit in 64 bits, as in requests to the API.

    Raises:
        NotJsonError: the value, or a part of it, is not JSON.
    """
    encoded = encode_finite(value)
    if _LONG_NUMBER.search(encoded) is not None:
        _raise_for(value, integers=True)
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
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise NotJsonError(str(error) or type(error).__name__) from None
    return encoded


def _raise_for(value: Any, *, integers: bool) -> None:
    """Raise for a number in a value that JSON cannot hold, if there is one."""
    builtins = msgspec.to_builtins(value, str_keys=True, enc_hook=_decode_raw)
    pending: list[tuple[str, Any]] = [("", builtins)]
    while pending:
        pointer, part = pending.pop()
        match part:
            case bool() | str():
                pass
            case dict():
                pending += [(join_pointer(pointer, key), each) for key, each in part.items()]
            case list() | tuple():
                pending += [(join_pointer(pointer, at), each) for at, each in enumerate(part)]
            case float() if not math.isfinite(part):
                raise NotJsonError(f"{part}{_at(pointer)} is not a JSON number")
            case int() if integers and not MIN_INTEGER <= part <= MAX_INTEGER:
                raise NotJsonError(f"the integer{_at(pointer)} does not fit in 64 bits")


def _decode_raw(value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return msgspec.json.decode(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _at(pointer: str) -> str:
    return f" at {pointer}" if pointer else ""
