"""What a definition marks as sensitive: ``sensitive: true`` in its schemas and at its nodes.

A schema marks places of whatever it describes. Which branch of a schema describes a value is not
asked: a place that any of them marks is marked, because to show too little does no harm.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import referencing
import referencing.exceptions
from referencing.jsonschema import DRAFT202012

from tailrace_shared.json_pointer import join_pointer, split_pointer
from tailrace_shared.workflow.definition import Definition, ItemWork, Node

MAX_EVENT_POINTERS: Final = 200
"""Pointers that one event carries; where there are more, what they are in is marked instead."""

# Of pointers before there are few of them: values with long keys make them long, and all alike.
_MOST_CHARACTERS: Final = 20_000_000

_WORD: Final = "sensitive"
_MEMBERS: Final = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_ALTERNATIVES: Final = ("allOf", "anyOf", "oneOf", "prefixItems")
_SINGLE: Final = (
    *("if", "then", "else", "not", "items", "contains", "additionalProperties", "propertyNames"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_REFERENCES: Final = ("$ref", "$dynamicRef")
_NO_RETRIEVAL: Final[referencing.Registry[Any]] = referencing.Registry()

_Path = tuple[str | int, ...]


def subschemas(schema: Any, path: _Path = ()) -> Iterator[tuple[_Path, dict[str, Any]]]:
    """Yield a JSON Schema and all schemas within it that are objects, each with its place."""
    waiting: list[tuple[_Path, Any]] = [(path, schema)]
    while waiting:
        path, schema = waiting.pop()
        if not isinstance(schema, dict):
            continue
        yield path, schema
        for keyword in _MEMBERS:
            members = schema.get(keyword)
            if isinstance(members, dict):
                waiting += [((*path, keyword, name), each) for name, each in members.items()]
        for keyword in _ALTERNATIVES:
            members = schema.get(keyword)
            if isinstance(members, list):
                waiting += [((*path, keyword, index), each) for index, each in enumerate(members)]
        waiting += [((*path, keyword), schema[keyword]) for keyword in _SINGLE if keyword in schema]


def schema_has_sensitive(schema: Any) -> bool:
    """Tell whether a schema marks anything."""
    return isinstance(schema, dict) and any(
        each.get(_WORD) is True for _path, each in subschemas(schema)
    )


def sensitive_pointers(schema: Any, value: Any) -> list[str]:
    """Return the places of a value that its schema marks, as JSON Pointers."""
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
    """Goes through a value and its schema together."""

    def __init__(self) -> None:
        self.found: set[_Path] = set()
        self._seen: set[tuple[int, _Path]] = set()

    def visit(self, schema: Any, value: Any, path: _Path, resolver: Any) -> None:
        # A schema may refer to itself; of one place it says the same every time.
        if not isinstance(schema, dict) or (id(schema), path) in self._seen:
            return
        self._seen.add((id(schema), path))
        if schema.get(_WORD) is True:
            self.found.add(path)
            return
        if "$id" in schema:
            resolver = resolver.in_subresource(DRAFT202012.create_resource(schema))
        for keyword in _REFERENCES:
            if isinstance(reference := schema.get(keyword), str):
                self._refer(reference, value, path, resolver)
        for each in _of_same(schema):
            self.visit(each, value, path, resolver)
        for key, member in _members(value):
            within = _of_item(schema, key) if isinstance(key, int) else _of_member(schema, key)
            for each in within:
                self.visit(each, member, (*path, key), resolver)

    def _refer(self, reference: str, value: Any, path: _Path, resolver: Any) -> None:
        try:
            found = resolver.lookup(reference)
        except (referencing.exceptions.Unresolvable, ValueError, TypeError):
            return  # refused when the definition was stored
        self.visit(found.contents, value, path, found.resolver)


def _members(value: Any) -> Iterable[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _of_same(schema: Mapping[str, Any]) -> Iterator[Any]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(keyword, ())
    for keyword in ("if", "then", "else"):
        if keyword in schema:
            yield schema[keyword]
    yield from schema.get("dependentSchemas", {}).values()


def _of_member(schema: Mapping[str, Any], key: str) -> Iterator[Any]:
    properties = schema.get("properties", {})
    if key in properties:
        yield properties[key]
    # Which pattern fits is not asked either.
    yield from schema.get("patternProperties", {}).values()
    if key not in properties and "additionalProperties" in schema:
        yield schema["additionalProperties"]
    if "unevaluatedProperties" in schema:
        yield schema["unevaluatedProperties"]


def _of_item(schema: Mapping[str, Any], index: int) -> Iterator[Any]:
    first: Sequence[Any] = schema.get("prefixItems", ())
    if index < len(first):
        yield first[index]
    elif "items" in schema:
        yield schema["items"]
    for keyword in ("contains", "unevaluatedItems"):
        if keyword in schema:
            yield schema[keyword]


def node_sensitive_pointers(node: Node | ItemWork, output: Any) -> list[str]:
    """Return the places of an output that its node marks, as JSON Pointers.

    ``*`` in a pointer of the definition is every item of a list.
    """
    return matching_pointers(sensitive_patterns(node), output)


def sensitive_patterns(node: Node | ItemWork) -> list[str]:
    """Return what a node marks of its output, whatever that will be."""
    if isinstance(node.sensitive, bool):
        return [""] if node.sensitive else []
    return node.sensitive


def item_sensitive_patterns(node: Node, index: int) -> list[str]:
    """Return what a map marks of the output of one of its items, by marking its list."""
    patterns = sensitive_patterns(node)
    if "" in patterns:
        return [""]
    first = (pattern[1:].partition("/") for pattern in patterns)
    return [slash + rest for token, slash, rest in first if token in {"*", str(index)}]


def matching_pointers(patterns: Iterable[str], value: Any) -> list[str]:
    """Return the places of a value that patterns lead to, as JSON Pointers."""
    return limit_pointers(
        join_pointer("", *place)
        for pattern in patterns
        for place in _places(value, split_pointer(pattern), ())
    )


def _places(value: Any, tokens: Sequence[str], path: _Path) -> Iterator[_Path]:
    if not tokens:
        yield path
        return
    first, rest = tokens[0], tokens[1:]
    if isinstance(value, dict) and first in value:
        yield from _places(value[first], rest, (*path, first))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if first in {"*", str(index)}:
                yield from _places(item, rest, (*path, index))


def limit_pointers(pointers: Iterable[str]) -> list[str]:
    """Return pointers that mark at least the same places, sorted, and not too many of them."""
    found = _outermost(_within_bounds(pointers))
    while len(found) > MAX_EVENT_POINTERS:
        deepest = max(pointer.count("/") for pointer in found)
        found = _outermost(
            pointer.rpartition("/")[0] if pointer.count("/") == deepest else pointer
            for pointer in found
        )
    return found


def _within_bounds(pointers: Iterable[str]) -> set[str]:
    """Gather pointers; the one to everything, if they are too much."""
    found: set[str] = set()
    characters = 0
    for pointer in pointers:
        found.add(pointer)
        characters += len(pointer)
        if characters > _MOST_CHARACTERS:
            return {""}
    return found


def _outermost(pointers: Iterable[str]) -> list[str]:
    """Leave out places that are within other places."""
    found: list[str] = []
    # After its parent, and before anything else, comes what is within it.
    for pointer in sorted(set(pointers), key=lambda each: each.split("/")):
        if not found or not (pointer + "/").startswith(found[-1] + "/"):
            found.append(pointer)
    return found


def has_sensitive_fields(definition: Definition) -> bool:
    """Tell whether a definition marks anything as sensitive."""
    return schema_has_sensitive(definition.input) or any(
        map(_node_marks, definition.nodes.values())
    )


def _node_marks(node: Node) -> bool:
    work = node.parameters.get("do") if node.type == "map" else None
    return bool(
        node.sensitive
        or (isinstance(work, dict) and work.get("sensitive"))
        or (node.type == "await" and schema_has_sensitive(node.parameters.get("form")))
    )


class InvalidKeyword(NamedTuple):
    """A place of a schema where ``sensitive`` is not what it can be."""

    path: _Path
    detail: str


def invalid_keywords(schema: Any) -> Iterator[InvalidKeyword]:
    """Yield the places of a schema where ``sensitive`` says neither true nor false."""
    for path, each in subschemas(schema):
        if not isinstance(each.get(_WORD, False), bool):
            yield InvalidKeyword((*path, _WORD), "sensitive must be true or false")
