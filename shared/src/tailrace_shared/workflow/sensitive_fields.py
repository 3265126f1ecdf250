"""Find the values that a definition marks as sensitive, in its schemas and at its nodes.

A schema marks values with ``sensitive: true``. The conditions of schema branches are not
evaluated: a value is sensitive if any branch marks it, because masking too much does no harm.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import referencing
import referencing.exceptions
from referencing.jsonschema import DRAFT202012

from tailrace_shared.json_pointer import join_pointer, split_pointer
from tailrace_shared.workflow.definition import Definition, ItemWork, Node

MAX_EVENT_POINTERS: Final = 200
"""Maximum number of pointers in an event. Beyond it, enclosing values are marked instead."""

# Limit of all pointers together before they are reduced: long keys make them long.
_MAX_CHARACTERS: Final = 20_000_000

_KEYWORD: Final = "sensitive"
_MEMBERS: Final = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_ALTERNATIVES: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE: Final = (
    *("if", "then", "else", "not", "items", "contains", "additionalProperties", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_REFERENCES: Final = ("$ref", "$dynamicRef")
_NO_RETRIEVAL: Final[referencing.Registry[Any]] = referencing.Registry()

_Path = tuple[str | int, ...]


def subschemas(schema: Any) -> Iterator[tuple[_Path, dict[str, Any]]]:
    """Yield a JSON Schema and all its subschemas that are objects, each with its path."""
    pending: list[tuple[_Path, Any]] = [((), schema)]
    while pending:
        path, schema = pending.pop()
        if not isinstance(schema, dict):
            continue
        yield path, schema
        for keyword in _MEMBERS:
            members = schema.get(keyword)
            if isinstance(members, dict):
                pending += [((*path, keyword, name), each) for name, each in members.items()]
        for keyword in _ALTERNATIVES:
            members = schema.get(keyword)
            if isinstance(members, list):
                pending += [((*path, keyword, index), each) for index, each in enumerate(members)]
        pending += [((*path, keyword), schema[keyword]) for keyword in _SINGLE if keyword in schema]


def schema_has_sensitive(schema: Any) -> bool:
    return isinstance(schema, dict) and any(
        each.get(_KEYWORD) is True for _path, each in subschemas(schema)
    )


def sensitive_pointers(schema: Any, value: Any) -> list[str]:
    """Return pointers to the values that a schema marks as sensitive."""
    if not schema_has_sensitive(schema):
        return []
    resource = DRAFT202012.create_resource(schema)
    walk = _Walk()
    try:
        walk.visit(schema, value, (), _NO_RETRIEVAL.resolver_with_root(resource))
    except RecursionError:
        return [""]
    return limit_pointers(join_pointer("", *path) for path in walk.found)


class _Walk:
    """Traverses a value together with its schema."""

    def __init__(self) -> None:
        self.found: set[_Path] = set()
        self._seen: set[tuple[int, _Path]] = set()

    def visit(self, schema: Any, value: Any, path: _Path, resolver: Any) -> None:
        # A recursive schema is visited once for each path.
        if not isinstance(schema, dict) or (id(schema), path) in self._seen:
            return
        self._seen.add((id(schema), path))
        if schema.get(_KEYWORD) is True:
            self.found.add(path)
            return
        if "$id" in schema:
            resolver = resolver.in_subresource(DRAFT202012.create_resource(schema))
        for keyword in _REFERENCES:
            if isinstance(reference := schema.get(keyword), str):
                self._refer(reference, value, path, resolver)
        for each in _same_value_schemas(schema):
            self.visit(each, value, path, resolver)
        for key, member in _members(value):
            within = (
                _item_schemas(schema, key) if isinstance(key, int) else _member_schemas(schema, key)
            )
            for each in within:
                self.visit(each, member, (*path, key), resolver)

    def _refer(self, reference: str, value: Any, path: _Path, resolver: Any) -> None:
        try:
            found = resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError, TypeError):
            return  # such definitions are refused when they are stored
        self.visit(found.contents, value, path, found.resolver)


def _members(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _same_value_schemas(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(keyword, ())
    for keyword in ("if", "then", "else"):
        if keyword in schema:
            yield schema[keyword]
    yield from schema.get("dependentSchemas", {}).values()


def _member_schemas(schema: Mapping[str, Any], key: str) -> Iterator[Any]:
    properties = schema.get("properties", {})
    if key in properties:
        yield properties[key]
    # Patterns are not matched either.
    yield from schema.get("patternProperties", {}).values()
    if key not in properties and "additionalProperties" in schema:
        yield schema["additionalProperties"]
    if "unevaluatedProperties" in schema:
        yield schema["unevaluatedProperties"]


def _item_schemas(schema: Mapping[str, Any], index: int) -> Iterator[Any]:
    first: Sequence[Any] = schema.get("prefixItems", ())
    if index < len(first):
        yield first[index]
    elif "items" in schema:
        yield schema["items"]
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            yield schema[keyword]


def node_sensitive_pointers(node: Node | ItemWork, output: Any) -> list[str]:
    """Return pointers to the values of an output that its node marks as sensitive.

    ``*`` in a pointer of the definition stands for every item of a list.
    """
    return matching_pointers(sensitive_patterns(node), output)


def sensitive_patterns(node: Node | ItemWork) -> list[str]:
    """Return the patterns of a node, independent of its output."""
    if isinstance(node.sensitive, bool):
        return [""] if node.sensitive else []
    return node.sensitive


def item_sensitive_patterns(node: Node, index: int) -> list[str]:
    """Return the patterns of a map that apply to the output of one item."""
    patterns = sensitive_patterns(node)
    if "" in patterns:
        return [""]
    first = (pattern[1:].partition("/") for pattern in patterns)
    return [slash + rest for token, slash, rest in first if token in {"*", str(index)}]


def matching_pointers(patterns: Iterable[str], value: Any) -> list[str]:
    """Return pointers to the values that match patterns."""
    return limit_pointers(
        join_pointer("", *place)
        for pattern in patterns
        for place in _matching_paths(value, split_pointer(pattern), ())
    )


def _matching_paths(value: Any, tokens: Sequence[str], path: _Path) -> Iterator[_Path]:
    if not tokens:
        yield path
        return
    first, rest = tokens[0], tokens[1:]
    if isinstance(value, dict) and first in value:
        yield from _matching_paths(value[first], rest, (*path, first))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if first in {"*", str(index)}:
                yield from _matching_paths(item, rest, (*path, index))


def limit_pointers(pointers: Iterable[str]) -> list[str]:
    """Return sorted pointers that cover all given values, at most ``MAX_EVENT_POINTERS``."""
    found = _outermost(_within_bounds(pointers))
    while len(found) > MAX_EVENT_POINTERS:
        deepest = max(pointer.count("/") for pointer in found)
        found = _outermost(
            pointer.rpartition("/")[0] if pointer.count("/") == deepest else pointer
            for pointer in found
        )
    return found


def _within_bounds(pointers: Iterable[str]) -> set[str]:
    """Collect pointers, or return only the empty one if they exceed the limit."""
    found: set[str] = set()
    characters = 0
    for pointer in pointers:
        found.add(pointer)
        characters += len(pointer)
        if characters > _MAX_CHARACTERS:
            return {""}
    return found


def _outermost(pointers: Iterable[str]) -> list[str]:
    """Drop pointers to values within other values."""
    found: list[str] = []
    # A value sorts before the values within it, and these before its siblings.
    for pointer in sorted(set(pointers), key=lambda each: each.split("/")):
        if not found or not (pointer + "/").startswith(found[-1] + "/"):
            found.append(pointer)
    return found


def has_sensitive_fields(definition: Definition) -> bool:
    return schema_has_sensitive(definition.input) or any(
        map(_node_has_sensitive, definition.all_nodes.values())
    )


def _node_has_sensitive(node: Node) -> bool:
    work = node.parameters.get("do") if node.type == "map" else None
    return bool(
        node.sensitive
        or (isinstance(work, dict) and work.get("sensitive"))
        or (node.type == "await" and schema_has_sensitive(node.parameters.get("form")))
    )


class InvalidKeyword(NamedTuple):
    """A position in a schema where ``sensitive`` is not a boolean."""

    path: _Path
    detail: str


def invalid_keywords(schema: Any) -> Iterator[InvalidKeyword]:
    """Yield the positions in a schema where ``sensitive`` is not a boolean."""
    for path, each in subschemas(schema):
        if not isinstance(each.get(_KEYWORD, False), bool):
            yield InvalidKeyword((*path, _KEYWORD), "sensitive must be true or false")
