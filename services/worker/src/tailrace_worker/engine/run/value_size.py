"""Tell small values from large ones, in bounded time. Pure."""

from typing import Any, Final

from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal

_INSTRUCTIONS: Final = frozenset({Wait, ForSignal, ForChild})
_SCALARS: Final = frozenset({int, float, bool, type(None)})
_MAX_CHARACTERS: Final = 32 * 1024
_MAX_VALUES: Final = 500


def is_small(value: Any) -> bool:
    """Return whether a value is known to be small: plain JSON, up to 32 KiB in 500 values."""
    if type(value) in _INSTRUCTIONS:
        return True
    characters, values, stack = 0, 0, [value]
    while stack:
        each = stack.pop()
        kind = type(each)
        values += 1
        if kind is str:
            characters += len(each)
        elif kind is dict or kind is list:
            if len(each) > _MAX_VALUES:
                return False
            stack += each
            if kind is dict:
                stack += each.values()
        elif kind not in _SCALARS:
            return False
        if characters > _MAX_CHARACTERS or values + len(stack) > 2 * _MAX_VALUES:
            return False
    return True
