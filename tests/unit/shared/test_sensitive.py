"""Marks of sensitive values in schemas and nodes, and copies of these values."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.generators.workflows import definition
from tailrace_shared.execution import commands
from tailrace_shared.execution.events import Command, StepWait
from tailrace_shared.execution.sensitive_values import SensitiveValues
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.redact.masking import MASK, mask_value
from tailrace_shared.stores.indexes.waiting_index import Waiting
from tailrace_shared.workflow.definition import Node
from tailrace_shared.workflow.node_types import SHIPPED
from tailrace_shared.workflow.schemas.input_schema import (
    compile_schema,
    schema_problems,
    violations,
)
from tailrace_shared.workflow.sensitive_fields import (
    MAX_EVENT_POINTERS,
    has_sensitive_fields,
    item_sensitive_patterns,
    limit_pointers,
    matching_pointers,
    node_sensitive_pointers,
    sensitive_pointers,
)
from tailrace_shared.workflow.validation import validate

MARKED = {"type": "string", "sensitive": True}


@pytest.mark.parametrize(
    ("schema", "value", "found"),
    [
        ({"properties": {"a": MARKED, "b": {}}}, {"a": "x", "b": "y"}, ["/a"]),
        ({"properties": {"a": MARKED}}, {"b": 1}, []),
        ({"sensitive": True}, 5, [""]),
        ({"sensitive": False, "properties": {"a": MARKED}}, {"a": 1}, ["/a"]),
        ({"items": {"properties": {"a": MARKED}}}, [{"a": 1}, {}, {"a": 2}], ["/0/a", "/2/a"]),
        ({"prefixItems": [MARKED], "items": {}}, [1, 2], ["/0"]),
        ({"prefixItems": [{}], "items": MARKED}, [1, 2, 3], ["/1", "/2"]),
        ({"additionalProperties": MARKED, "properties": {"a": {}}}, {"a": 1, "b": 2}, ["/b"]),
        ({"patternProperties": {"^x": MARKED}}, {"x1": 1}, ["/x1"]),
        ({"anyOf": [{"properties": {"a": MARKED}}, {"properties": {"b": MARKED}}]},
         {"a": 1, "b": 2}, ["/a", "/b"]),
        ({"if": {}, "then": {"properties": {"a": MARKED}}}, {"a": 1}, ["/a"]),
        ({"dependentSchemas": {"b": {"properties": {"a": MARKED}}}}, {"a": 1}, ["/a"]),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"properties": {"a": MARKED}}}}, {"a": 1}, ["/a"]),
        ({"properties": {"a": {"$ref": "#/$defs/card"}}, "$defs": {"card": MARKED}},
         {"a": 1}, ["/a"]),
        ({"$id": "http://x/s", "properties": {"a": {"$ref": "#card"}},
          "$defs": {"card": {"$anchor": "card", **MARKED}}}, {"a": 1}, ["/a"]),
        ({"properties": {"next": {"$ref": "#"}, "a": MARKED}},
         {"a": 1, "next": {"a": 2, "next": {"a": 3}}}, ["/a", "/next/a", "/next/next/a"]),
        ({"properties": {"sensitive": {"type": "boolean"}}}, {"sensitive": True}, []),
        ({"const": {"sensitive": True}}, {"sensitive": True}, []),
        ({"properties": {"a/b": MARKED, "~": MARKED}}, {"a/b": 1, "~": 2}, ["/a~1b", "/~0"]),
        (True, {"a": 1}, []),
        (None, {"a": 1}, []),
    ],
)  # fmt: skip
def test_a_schema_marks_values(schema, value, found):
    """Marks work in all branches and through references; a property of that name is not a mark."""
    assert schema is None or schema_problems(schema) == []
    assert sorted(sensitive_pointers(schema, value)) == sorted(found)


def test_a_value_that_is_too_deep_is_marked_as_a_whole():
    """Masking too much does no harm."""
    value: Any = {}
    for _ in range(2000):
        value = {"next": value}
    schema = {"properties": {"next": {"$ref": "#"}, "a": MARKED}}
    assert sensitive_pointers(schema, value) == [""]


@pytest.mark.parametrize(
    ("marks", "found"),
    [
        (True, [""]),
        (False, []),
        ([""], [""]),
        (["/rows/*/iban"], ["/rows/0/iban", "/rows/1/iban"]),
        (["/rows/1", "/total"], ["/rows/1", "/total"]),
        (["/rows/5", "/nowhere", "/total/x", "/rows/iban"], []),
        (["/*"], ["/*"]),
    ],
)
def test_a_node_marks_values_of_its_output(marks, found):
    """A star matches every item of a list; in an object it is an ordinary key."""
    output = {"rows": [{"iban": "AT61"}, {"iban": "DE02", "n": 1}], "total": 5, "*": 1}
    assert node_sensitive_pointers(Node("own", sensitive=marks), output) == found


def test_marks_of_a_maps_list_are_marks_of_its_items():
    """The output of an item is recorded before the list."""
    node = Node("map", sensitive=["/*/ssn", "/1", "/2/deep/er"])
    assert item_sensitive_patterns(node, 0) == ["/ssn"]
    assert item_sensitive_patterns(node, 1) == ["/ssn", ""]
    assert item_sensitive_patterns(node, 2) == ["/ssn", "/deep/er"]
    assert item_sensitive_patterns(Node("map", sensitive=True), 7) == [""]


pointers = st.lists(
    st.lists(st.sampled_from("abcd0123"), max_size=4).map(
        lambda tokens: "".join(f"/{token}" for token in tokens)
    ),
    max_size=400,
)


@given(pointers)
def test_limited_pointers_cover_all_values(given_pointers):
    """Nested pointers are dropped, and too many are replaced by enclosing values."""
    kept = limit_pointers(given_pointers)
    assert len(kept) <= MAX_EVENT_POINTERS
    for pointer in given_pointers:
        assert any(f"{pointer}/".startswith(f"{each}/") for each in kept)
    for each in kept:
        assert any(f"{pointer}/".startswith(f"{each}/") for pointer in given_pointers)


def test_thousands_of_pointers_become_the_enclosing_value():
    """Events must stay small."""
    assert limit_pointers([f"/rows/{index}/iban" for index in range(10_000)]) == ["/rows"]


@pytest.mark.parametrize(
    ("fields", "is_marked"),
    [
        ({}, False),
        ({"sensitive": True}, True),
        ({"sensitive": ["/a"]}, True),
        ({"sensitive": False}, False),
        ({"type": "await", "with": {"form": {"properties": {"pin": MARKED}}}}, True),
        (
            {
                "type": "map",
                "with": {"for_each": "[1]", "do": {"type": "own", "sensitive": ["/a"]}},
            },
            True,
        ),
    ],
)
def test_a_definition_tells_whether_it_marks_anything(fields, is_marked):
    """Workflows without marks skip the search."""
    assert has_sensitive_fields(definition({"a": {"type": "own", **fields}})) is is_marked
    assert has_sensitive_fields(definition({"a": {}}, input={"properties": {"x": MARKED}}))


def test_a_visual_editor_marks_with_the_same_field():
    """The field is in the data of a node, like all its fields."""
    node = {"id": "a", "type": "log", "data": {"message": "x", "sensitive": ["/a"]}}
    found = validate({"id": "w", "nodes": [node], "edges": []}, SHIPPED).definition
    assert found is not None
    assert found.nodes["a"].sensitive == ["/a"]


@pytest.mark.parametrize(
    ("document", "place", "why"),
    [
        ({"input": {"properties": {"a": {"sensitive": "yes"}}}}, "/input/properties/a/sensitive",
         "sensitive must be true or false"),
        ({"input": {"items": {"sensitive": ["/a"]}}}, "/input/items/sensitive",
         "sensitive must be true or false"),
        ({"node": {"sensitive": "/a"}}, "/nodes/n/sensitive",
         "sensitive must be a boolean or a list of JSON Pointers into the output"),
        ({"node": {"sensitive": ["/a", "b"]}}, "/nodes/n/sensitive/1",
         "must be a JSON Pointer such as /customer/iban or /rows/*/iban"),
        ({"node": {"sensitive": ["/a~2"]}}, "/nodes/n/sensitive/0",
         "must be a JSON Pointer such as /customer/iban or /rows/*/iban"),
        ({"node": {"sensitive": ["/a"] * 101}}, "/nodes/n/sensitive",
         "101 pointers; the limit is 100"),
        ({"node": {"type": "await", "with": {"form": {"sensitive": 1}}}},
         "/nodes/n/with/form/sensitive", "sensitive must be true or false"),
        ({"node": {"type": "map", "with": {"for_each": "[1]",
          "do": {"type": "log", "with": {"message": "x"}, "sensitive": 1}}}},
         "/nodes/n/with/do/sensitive",
         "sensitive must be a boolean or a list of JSON Pointers into the output"),
    ],
)  # fmt: skip
def test_an_invalid_mark_is_reported_with_its_position(document, place, why):
    """Like every problem of a definition."""
    document = dict(document)
    node = {"type": "log", "with": {"message": "x"}, **document.pop("node", {})}
    found = validate({"id": "w", "nodes": {"n": node}, **document}, SHIPPED).problems
    assert [(each.pointer, each.detail) for each in found] == [(place, why)]


def test_violations_do_not_quote_sensitive_values():
    """Problems are copied into errors of parent runs and into dead letters."""
    schema = {
        "type": "object",
        "properties": {"card": {**MARKED, "pattern": "^4"}, "n": {"type": "integer"}},
        "anyOf": [{"required": ["x"]}],
    }
    found = violations(compile_schema(schema), "input", {"card": "5555-1", "n": "five"})
    assert "5555" not in str(found)
    assert {each.detail for each in found} >= {
        "violates the schema: pattern",
        "'five' is not of type 'integer'",
    }


def marked_values(value: Any, *matching_pointers: str) -> SensitiveValues:
    """Return the sensitive values at pointers."""
    values = SensitiveValues()
    values.add(value, matching_pointers)
    return values


def test_copies_of_sensitive_values_are_found():
    """Texts match within others, numbers exactly; a match in a key marks the whole object."""
    values = marked_values({"a": {"card": "4111-1111", "pin": 98765, "ok": True, "x": "abc"}}, "/a")
    elsewhere = {
        "copy": "4111-1111",
        "text": "card 4111-1111 is used",
        "n": 98765,
        "m": 198765,
        "pin": "my pin is 98765",
        "short": "abc",
        "true": True,
        "deep": [{"x": ["4111-1111"]}],
        "key": {"4111-1111": 1},
    }
    assert values.find(elsewhere) == ["/copy", "/deep/0/x/0", "/key", "/n", "/pin", "/text"]
    assert values.redact("4111-1111 and 98765: abc") == "*** and ***: abc"


def test_copies_of_escaped_texts_are_found():
    """The search starts in the JSON form of the value."""
    word = 'quo"te\n\\é'
    assert marked_values(word, "").find({"a": f"<{word}>"}) == ["/a"]


def test_a_truncated_text_does_not_end_with_part_of_a_value():
    """Messages are truncated before they are redacted."""
    values = marked_values("secret-number-42", "")
    assert values.redact("x" * 2040 + "secret-n") == "x" * 2040 + MASK
    assert values.redact("short secret-n") == "short secret-n"
    again = marked_values("ab" * 100_000, "")
    assert again.redact("x" * 2042 + "ababab") == "x" * 2042 + MASK
    assert again.redact("b" * 2048) == "b" * 2048


@pytest.mark.parametrize("value", ["x" * 1_000_000, [f"<{n:06}>" for n in range(5000)]])
def test_too_many_sensitive_values_mark_whole_documents(value):
    """A search for each value would take seconds per event."""
    values = marked_values([f"{number:06}" for number in range(5000)], "")
    assert values.find({"a": value}) == [""]
    assert values.find({"a": "000042"}) == ["/a"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.text(min_size=4, max_size=8),
)
def test_a_masked_value_has_no_sensitive_text_left(value, word):
    """This holds for texts and keys at any depth."""
    wrapped = {"a": value, "b": [f"x{word}y"], "c": {word: value}}
    seen = mask_value(wrapped, marked_values(word, "").find(wrapped))
    assert not has(seen, word)


def has(value: Any, word: str) -> bool:
    """Tell whether a text within a value contains a word."""
    match value:
        case str():
            return word in value and value != MASK
        case dict():
            return any(has(each, word) for pair in value.items() for each in pair)
        case list():
            return any(has(each, word) for each in value)
        case _:
            return False


def waiting_state(**wait: Any) -> ExecutionState:
    """Return an execution whose input has a marked value, with a step that waits."""
    state = ExecutionState("e", status="paused", input={"card": "4111-1111"}, sensitive=["/card"])
    state.created_at = "2030-01-01T00:00:00Z"
    waiting = StepWait("a", "await", "waiting", wait="signal", **wait)
    state.steps["a"] = StepState("a", "await", "waiting", waiting=waiting)
    return state


@pytest.mark.parametrize(
    ("wait", "found"),
    [
        ({}, ["/data/note"]),
        ({"form": {"properties": {"pin": MARKED}}}, ["/data/note", "/data/pin"]),
        ({"sensitive": [""]}, ["/data", "/event"]),
        ({"sensitive": ["/event/*/x", "/data/pin"]}, ["/data/note", "/data/pin", "/event/0/x"]),
    ],
)
def test_a_signal_is_marked_by_its_step(wait, found):
    """Marks come from the form, the node, and known sensitive values."""
    data = {"pin": "1", "note": "for 4111-1111"}
    signal = Command("e", "resolve", "c", data=data, event=[{"x": 1}])
    event = commands.request_resolve(waiting_state(**wait), signal, 0.0)
    assert event is not None
    assert event.data.sensitive == found


def test_marked_values_of_a_waiting_entry_are_masked():
    """Its other fields stay unchanged."""
    entry = Waiting(
        "e", "n", "w", "W", "why", "since",
        input={"card": "4111", "n": 1},
        context={"input": {"card": "4111"}},
        sensitive=["/input/card", "/context/input/card"],
    )  # fmt: skip
    seen = entry.masked
    assert (seen.input, seen.context) == ({"card": MASK, "n": 1}, {"input": {"card": MASK}})
    assert b"4111" not in msgspec.json.encode(seen)
    clean = Waiting("e", "n", "w", "W", "why", "since", input={"card": "4111"})
    assert clean.masked is clean


def test_pointers_with_long_keys_take_little_memory():
    """Ten thousand pointers with a key of a megabyte would exhaust the memory."""
    key = "k" * 1_000_000
    value = {key: {str(number): "4111-1111" for number in range(10_000)}}
    schema = {"properties": {key: {"additionalProperties": MARKED}}}
    assert sensitive_pointers(schema, value) == [""]
    assert marked_values("4111-1111", "").find(value) == [""]
    items = {key: [{"a": 1}] * 10_000}
    assert matching_pointers([f"/{key}/*/a"], items) == [""]
