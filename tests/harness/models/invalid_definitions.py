"""Definitions of the validation's tests, and the problems that it finds in them."""

from collections.abc import Mapping
from typing import Any, Final

from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter
from tailrace_shared.workflow.validation import validate

TRANSFORM: Final = {"type": "transform", "with": {"value": 1}}
DO: Final = {"type": "po.parse", "with": {"file": "${item}"}}
TYPES: Final[Mapping[str, NodeType]] = {
    **SHIPPED,
    "po.parse": NodeType("po.parse", {"file": Parameter(required=True), "pages": Parameter()}),
    "anything": NodeType("anything", open=True),
}


def problems_of(document: Any, **options: Any) -> list[tuple[str, str]]:
    """Return the problems of a document as (pointer, detail)."""
    definition, problems = validate(document, TYPES, **options)
    assert (definition is None) == bool(problems)
    return [(problem.pointer, problem.detail) for problem in problems]


def problems_of_node(**fields: Any) -> list[tuple[str, str]]:
    """Return the problems of a node, with pointers relative to the node."""
    return [
        (place.removeprefix("/nodes/n"), detail)
        for place, detail in problems_of({"id": "w", "nodes": {"n": {**TRANSFORM, **fields}}})
    ]


def resolve(document: Any, place: str) -> Any:
    """Resolve a JSON Pointer."""
    value = document
    for token in place.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value
