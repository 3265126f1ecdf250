"""Expressions and schemas against the test suites of CEL and JSON Schema.

Every difference must be listed, and explained in the documentation.
"""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.generators.suites import SUITES
from harness.models.deviations import documented, mismatches
from tailrace_shared.errors import ExpressionError, InvalidExpressionError
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.schemas.input_schema import (
    compile_schema,
    schema_problems,
    violations,
)

DEFINITIONS = Path(__file__).parents[3] / "docs" / "definitions.md"


def test_every_deviation_from_cel_is_listed():
    found: dict[str, str] = {}
    for case in json.loads((SUITES / "cel.json").read_bytes()):
        if effect := _effect_on_expression(case):
            found[case["id"]] = effect
    assert mismatches("cel", found) == []


def test_every_deviation_from_json_schema_is_listed():
    found: dict[str, str] = {}
    for case in json.loads((SUITES / "json_schema.json").read_bytes()):
        if schema_problems(case["schema"]):
            found[case["id"]] = "refused"
            continue
        validator = compile_schema(case["schema"])
        for description, value, is_valid in case["tests"]:
            if is_valid == bool(violations(validator, "value", value)):
                found[f"{case['id']} / {description}"] = "differs"
    assert mismatches("json_schema", found) == []


@pytest.mark.parametrize("name", ["cel", "json_schema"])
def test_the_documentation_lists_the_deviations(name: str):
    assert documented(name) in DEFINITIONS.read_text("utf-8")


def _effect_on_expression(case: dict[str, Any]) -> str | None:
    names = {name: _value(value) for name, value in case.get("names", {}).items()}
    effect = None
    value: Any = None
    try:
        value = compile_expression(case["expr"]).evaluate(names)
    except InvalidExpressionError:
        effect = "refused"
    except ExpressionError:
        effect = "fails"
    if "error" in case:
        # An error found early is better than one found late.
        return None if effect else "differs"
    return effect or (None if _is_same(value, _value(case["value"])) else "differs")


def _value(tagged: dict[str, Any]) -> Any:
    """Return the value of a tagged message of the suite, as expressions get it."""
    ((kind, value),) = tagged.items()
    # Other values are compared as they are, and types by their names.
    return _VALUES[kind](value) if kind in _VALUES else value


def _duration(message: dict[str, str]) -> timedelta:
    assert message["@type"].endswith("google.protobuf.Duration")
    return timedelta(seconds=float(message["value"].removesuffix("s")))


_VALUES: dict[str, Callable[[Any], Any]] = {
    "int64Value": int,
    "uint64Value": int,
    "doubleValue": float,
    "bytesValue": base64.b64decode,
    "objectValue": _duration,
    "listValue": lambda value: [_value(each) for each in value.get("values", ())],
    "mapValue": lambda value: {
        _value(each["key"]): _value(each["value"]) for each in value.get("entries", ())
    },
}


def _is_same(value: Any, wanted: Any) -> bool:
    """Return whether a value is the JSON form of what the suite wants."""
    match wanted:
        case bytes():
            return isinstance(value, str) and base64.b64decode(value) == wanted
        case list():
            return len(value) == len(wanted) and all(map(_is_same, value, wanted))
        case dict():
            texts = {_key(key): each for key, each in wanted.items()}
            return value.keys() == texts.keys() and all(
                _is_same(value[key], each) for key, each in texts.items()
            )
        case _:
            return type(value) is type(wanted) and bool(value == wanted)


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
