"""Turn the annotations of node functions into JSON Schemas, so that definitions can be checked."""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Final, Union, get_args, get_origin, is_typeddict

import msgspec

_MAX_BYTES: Final = 32 * 1024
"""A larger schema is not published with its node type."""
_OPEN: Final[dict[str, Any]] = {}


def schema_of(hint: Any, *, closed: bool = False) -> dict[str, Any] | None:
    """Return the schema of an annotation; None if it says nothing that could be checked.

    Args:
        hint: the annotation.
        closed: whether a struct or dataclass has no further properties, as the output of a
            function that returns it.
    """
    if not _is_described(hint):
        return None
    try:
        schema = msgspec.json.schema(hint)
    except (TypeError, ValueError, RuntimeError, NameError):
        return None
    definitions = schema.pop("$defs", {})
    inlined = _Inliner(definitions, closed=closed).inline(schema)
    if not inlined or len(msgspec.json.encode(inlined)) > _MAX_BYTES:
        return None
    return inlined


def _is_described(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in {Union, types.UnionType}:
        return all(each is type(None) or _is_plain(each) for each in get_args(hint))
    return _is_plain(hint) and hint not in {bool, dict, float, int, str}


def _is_plain(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    if kind in {bool, dict, float, int, list, str}:
        return True
    is_class = isinstance(kind, type)
    return is_class and (
        issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or is_typeddict(kind)
    )


class _Inliner:
    """Removes references from a schema; recursive types accept any value."""

    def __init__(self, definitions: Mapping[str, Any], *, closed: bool) -> None:
        self._definitions = definitions
        self._closed = closed
        self._within: list[str] = []

    def inline(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, dict):
            return _OPEN
        if "$ref" in schema:
            return self._target(str(schema["$ref"]).rpartition("/")[2])
        if "format" in schema or "contentEncoding" in schema:
            return _OPEN  # a function gets the text, or the number, as the definition has it
        inlined = {
            key: self._value(key, value)
            for key, value in schema.items()
            if key not in {"title", "description"}
        }
        if self._closed and "properties" in inlined:
            inlined.setdefault("additionalProperties", False)
        alternatives = inlined.get("anyOf", ())
        if alternatives and all(each.keys() == {"type"} for each in alternatives):
            # Its message names the types.
            return {"type": [each["type"] for each in alternatives]}
        return inlined

    def _target(self, name: str) -> dict[str, Any]:
        if name in self._within:
            return _OPEN
        self._within.append(name)
        inlined = self.inline(self._definitions.get(name))
        self._within.pop()
        return inlined

    def _value(self, key: str, value: Any) -> Any:
        match key:
            case "items" | "additionalProperties":
                return self.inline(value) if isinstance(value, dict) else value
            case "anyOf" | "prefixItems":
                return [self.inline(each) for each in value]
            case "properties":
                return {name: self.inline(each) for name, each in value.items()}
            case _:
                return value
