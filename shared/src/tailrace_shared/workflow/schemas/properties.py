"""Find the properties that a JSON Schema does not have, for expressions that read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tailrace_shared.workflow.problem_report import nearest

# With these a property may be declared elsewhere.
_COMPOSED: Final = frozenset(
    [
        *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "not"),
        *("patternProperties", "dependentSchemas"),
    ]
)
_CLOSING: Final = ("additionalProperties", "unevaluatedProperties")


class UnknownProperty(NamedTuple):
    """A property that a schema does not have.

    Attributes:
        depth: its index in the path.
        known: the properties that the schema has in this place.
    """

    depth: int
    known: Mapping[str, Any]


def unknown_property(schema: Any, path: Sequence[str]) -> UnknownProperty | None:
    """Return the first name of a path that the schema does not have, if it must be a mistake.

    Objects may have properties that their schema does not declare, unless it forbids them. There a
    name is a mistake only if it resembles a declared one.
    """
    for depth, name in enumerate(path):
        if not isinstance(schema, dict) or _COMPOSED & schema.keys():
            return None
        known = schema.get("properties")
        if not isinstance(known, dict):
            return None
        if name not in known:
            is_closed = any(schema.get(keyword) is False for keyword in _CLOSING)
            is_open = any(keyword in schema for keyword in _CLOSING)
            if is_closed or (not is_open and nearest(name, known)):
                return UnknownProperty(depth, known)
            return None
        schema = known[name]
    return None
