"""The defaults of JSON Schemas are filled into inputs and forms."""

import copy
from typing import Any

import pytest

from tailrace_shared.workflow.schemas.input_schema import (
    Checked,
    check_value,
    compile_schema,
    schema_problems,
)

REGION = {"type": "string", "default": "eu"}
ROW = {"properties": {"amount": {"type": "number"}, "currency": {"default": "EUR"}}}


def checked(schema: Any, value: Any, limit: int = 1000) -> Checked:
    """Fill and validate."""
    return check_value(compile_schema(schema), "input", value, limit)


@pytest.mark.parametrize(
    ("schema", "value", "filled"),
    [
        ({"properties": {"region": REGION}}, {}, {"region": "eu"}),
        ({"properties": {"region": REGION}}, {"region": "us"}, {"region": "us"}),
        ({"properties": {"region": REGION}}, [], []),
        ({"properties": {"region": REGION}, "required": ["region"]}, {}, {"region": "eu"}),
        ({"properties": {"x": {"default": None}}}, {}, {"x": None}),
        ({"properties": {"x": {"properties": {"region": REGION}}}}, {}, {}),
        (
            {"properties": {"x": {"properties": {"region": REGION}}}},
            {"x": {}},
            {"x": {"region": "eu"}},
        ),
        (
            {"items": ROW},
            [{"amount": 1}, {"currency": "USD"}, 5],
            [{"amount": 1, "currency": "EUR"}, {"currency": "USD"}, 5],
        ),
        ({"prefixItems": [ROW], "items": False}, [{}], [{"currency": "EUR"}]),
        ({"prefixItems": [ROW]}, [{}, {}], [{"currency": "EUR"}, {}]),
        ({"allOf": [{"properties": {"region": REGION}}]}, {}, {"region": "eu"}),
        (
            {"$defs": {"a/b": ROW}, "properties": {"row": {"$ref": "#/$defs/a~1b"}}},
            {"row": {}},
            {"row": {"currency": "EUR"}},
        ),
        # Conditions and alternatives are not decided here.
        ({"anyOf": [{"properties": {"region": REGION}}, True]}, {}, {}),
        # A default inside a default is as its author wrote it.
        (
            {"properties": {"x": {"default": {}, "properties": {"region": REGION}}}},
            {},
            {"x": {}},
        ),
    ],
)
def test_missing_properties_get_their_defaults(schema: Any, value: Any, filled: Any) -> None:
    """At any depth, and the value itself is not changed."""
    assert schema_problems(schema) == []
    before = copy.deepcopy(value)
    assert checked(schema, value) == Checked(filled, [])
    assert value == before


def test_a_default_that_violates_its_schema_is_refused_when_stored() -> None:
    """In a definition of an older version it is not filled in."""
    schema = {"properties": {"note": {"type": "string", "default": None}}}
    ((place, detail),) = schema_problems(schema)
    assert place == ("properties", "note", "default")
    assert "the default is not valid: None is not of type 'string'" in detail
    assert checked(schema, {}) == Checked({}, [])


def test_defaults_cannot_multiply_an_input() -> None:
    """A thousand items with a kilobyte each are refused before they exist."""
    schema = {"items": {"properties": {"text": {"default": "x" * 1000}}}}
    found = checked(schema, [{}] * 1000, 5000)
    assert [each.detail for each in found.problems] == [
        "the defaults of its schema add more than 5000 bytes"
    ]


def test_endless_references_end() -> None:
    """A schema may refer to itself, and twice at each level."""
    loop = {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    assert checked(loop, {}).problems
    twice = {"allOf": [{"$ref": "#"}] * 2, "properties": {"region": REGION}}
    (problem,) = check_value(compile_schema(twice), "input", {}, 1000, 0.1).problems
    assert "takes too long to check" in problem.detail
