"""Compare values as JSON Schema and CEL do: 1 equals 1.0, but not true."""

from typing import Any


def equality_key(value: Any) -> Any:
    """Return a hashable value that equals those of equal values only.

    Python compares ``True == 1``, also inside of lists and dictionaries.
    """
    match value:
        case bool():
            return (bool, value)
        case dict():
            return frozenset(
                (equality_key(key), equality_key(member)) for key, member in value.items()
            )
        case list():
            return tuple(map(equality_key, value))
        case _:
            return value
