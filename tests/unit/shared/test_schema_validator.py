"""The schema validator is bounded in time for any schema."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.workflow.schemas.input_schema import (
    compile_schema,
    schema_problems,
    violations,
)
from tailrace_shared.workflow.schemas.schema_validator import INLINE_SECONDS, MAX_SECONDS

BACKTRACKING = "^(a+)+$"
TEXT = "a" * 60 + "!"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 1.5, "", "1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=6,
)


def doubling(depth: int) -> dict[str, Any]:
    """Return a schema whose references double at each level."""
    twice = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n - 1}"}] * 2} for n in range(1, depth)}
    return {"$defs": {"d0": {"type": "string"}, **twice}, "$ref": f"#/$defs/d{depth - 1}"}


def checked(schema: Any, value: Any) -> list[str]:
    """Return the violations of a value, by a valid schema."""
    assert schema_problems(schema) == []
    return [each.detail for each in violations(compile_schema(schema), "input", value)]


@pytest.mark.parametrize(
    ("schema", "value", "is_good"),
    [
        ({"pattern": BACKTRACKING}, TEXT, False),
        ({"$schema": DRAFT, "items": {"$schema": DRAFT, "pattern": BACKTRACKING}}, [TEXT], False),
        ({"patternProperties": {BACKTRACKING: False}}, {TEXT: 1}, True),
        (
            {"patternProperties": {BACKTRACKING: True}, "additionalProperties": False},
            {"aaa": 1, TEXT: 1},
            False,
        ),
        ({"uniqueItems": True}, [{"n": number} for number in range(20_000)], True),
    ],
)
def test_a_check_takes_linear_time(schema: Any, value: Any, is_good: bool) -> None:
    """Backtracking patterns and pairwise comparison of items would take too long."""
    assert (checked(schema, value) == []) is is_good


def test_a_check_stops_at_its_time_limit() -> None:
    """The value is refused, because its validity is unknown."""
    schema = doubling(60)
    assert schema_problems(schema) == []
    found = violations(compile_schema(schema), "input", "text", INLINE_SECONDS)
    assert [each.detail for each in found] == ["the schema takes too long to check; simplify it"]
    assert INLINE_SECONDS < MAX_SECONDS
    assert checked(doubling(5), "text") == []


@pytest.mark.parametrize(
    ("schema", "place", "said"),
    [
        ({"pattern": "a(?=b)"}, ("pattern",), "look-around"),
        ({"properties": {"x": {"pattern": r"(a)\1"}}}, ("properties", "x", "pattern"), "backref"),
        (
            {"patternProperties": {"(?!a)": True}},
            ("patternProperties", "(?!a)"),
            "look-around",
        ),
        (
            {"patternProperties": {"a": True}, "allOf": [{"unevaluatedProperties": False}]},
            (),
            "cannot be used together",
        ),
    ],
)
def test_patterns_that_need_backtracking_are_refused(
    schema: Any, place: tuple[str, ...], said: str
) -> None:
    """They are reported with their position when the schema is stored."""
    ((at, detail),) = schema_problems(schema)
    assert at == place
    assert said in detail


@given(st.lists(_JSON, max_size=5))
def test_unique_items_use_json_equality(items: list[Any]) -> None:
    """1 equals 1.0, but not true."""
    equal = any(_same(a, b) for index, a in enumerate(items) for b in items[:index])
    assert bool(checked({"uniqueItems": True}, items)) is equal


def _same(one: Any, other: Any) -> bool:
    match one, other:
        case (bool(), _) | (_, bool()):
            return one is other
        case dict(), dict():
            return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(_same, one, other))
        case _:
            return bool(one == other)
