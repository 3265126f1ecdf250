"""Annotations of node functions as JSON Schemas."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pytest

from tailrace_shared.workflow.node_types import SHIPPED
from tailrace_shared.workflow.validation import validate
from tailrace_worker.nodes.annotations import schema_of
from tailrace_worker.nodes.node import declared_node, node


class Line(msgspec.Struct):
    """A line of an order."""

    sku: str
    count: int


class Order(msgspec.Struct):
    """An order with lines."""

    total: float
    lines: list[Line] = []


class Tree(msgspec.Struct):
    """A recursive type."""

    name: str
    children: list["Tree"] = []


@dataclass
class Person:
    """A dataclass."""

    name: str


class Row(TypedDict):
    """A dictionary with known keys."""

    id: str


class Opaque:
    """A class without a description."""


@node("test.parse")
def parse(file: str, pages: int = None, tags: list[str] = ()) -> Order:  # type: ignore[assignment]  # noqa: RUF013
    """Parse a file."""
    raise NotImplementedError(file, pages, tags)


@pytest.mark.parametrize("hint", [Any, None, Opaque, Decimal, str, Mapping[str, Any], "Missing"])
def test_an_annotation_without_a_description_has_no_schema(hint: Any):
    """The kind of plain types is checked without a schema."""
    assert schema_of(hint) is None


def test_types_have_schemas_without_references():
    """A function that returns a struct returns no further fields."""
    assert schema_of(list[int]) == {"type": "array", "items": {"type": "integer"}}
    assert schema_of(int | None) == {"type": ["integer", "null"]}
    for hint in (Person, Row):
        found = schema_of(hint)
        assert found is not None
        assert found["type"] == "object"
    found = schema_of(Order, closed=True)
    assert found is not None
    line = found["properties"]["lines"]["items"]
    assert line["properties"] == {"sku": {"type": "string"}, "count": {"type": "integer"}}
    assert found["additionalProperties"] is line["additionalProperties"] is False
    tree = schema_of(Tree)
    assert tree is not None
    assert tree["properties"]["children"]["items"] == {}


def test_a_definition_is_checked_by_the_annotations_of_its_functions():
    """Literal parameters, and fields of outputs that expressions read."""
    declared = declared_node(parse)
    assert declared is not None
    document = {
        "id": "w",
        "nodes": {
            "a": {"type": "test.parse", "with": {"file": "x", "pages": "three", "tags": ["a", 3]}},
            "b": {
                "type": "transform",
                "needs": ["a"],
                "when": "nodes.a.output.totl > 3.0",
                "with": {"value": "${nodes.a.output.total}"},
            },
        },
    }
    checked = validate(document, {**SHIPPED, "test.parse": declared.type})
    found = {problem.pointer: problem.detail for problem in checked.problems}
    assert found == {
        "/nodes/a/with/pages": "'three' is not of type 'integer', 'null'",
        "/nodes/a/with/tags/1": "3 is not of type 'string'",
        "/nodes/b/when": "the output of 'a' has no field 'totl', did you mean 'total'?",
    }
