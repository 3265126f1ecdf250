"""Tell small values from large ones, in bounded time. Pure."""

from typing import Any, Final

from tailrace_worker.nodes.node import Wait
from tailrace_worker.nodes.waits import ForChild, ForSignal

_MAX_CHARACTERS: Final = 32 * 1024
_MAX_VALUES: Final = 500


def is_small(value: Any) -> bool:
    """Return whether a value is known to be small: plain JSON, up to 32 KiB in 500 values."""
    if isinstance(value, Wait | ForSignal | ForChild):
        return True
    characters, values, stack = 0, 0, [value]
    while stack:
        each = stack.pop()
        values += 1
        if isinstance(each, str):
            characters += len(each)
        elif isinstance(each, dict | list | tuple):
            if len(each) > _MAX_VALUES:
                return False
            if isinstance(each, dict):
                stack.extend(each)
                stack.extend(each.values())
            else:
                stack.extend(each)
        elif not (each is None or isinstance(each, int | float)):
            return False
        if characters > _MAX_CHARACTERS or values + len(stack) > 2 * _MAX_VALUES:
            return False
    return True
