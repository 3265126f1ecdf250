"""Sensitive places: what schemas and nodes mark, and where their values turn up again."""

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
def test_a_schema_marks_places_of_what_it_describes(schema, value, found):
    """In all its branches, through references, and nothing that merely has the name."""
    assert schema is None or schema_problems(schema) == []
    assert sorted(sensitive_pointers(schema, value)) == sorted(found)


def test_a_value_too_deep_to_look_through_is_marked_as_a_whole():
    """To show too little does no harm."""
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
def test_a_node_marks_places_of_its_output(marks, found):
    """A star is every item of a list, and an ordinary key of an object."""
    output = {"rows": [{"iban": "AT61"}, {"iban": "DE02", "n": 1}], "total": 5, "*": 1}
    assert node_sensitive_pointers(Node("own", sensitive=marks), output) == found


def test_marks_of_a_maps_list_are_marks_of_its_items():
    """An item's output is in the log before the list is."""
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
def test_few_pointers_mark_at_least_the_same(given_pointers):
    """Places within marked places are left out, and too many give way to what they are in."""
    kept = limit_pointers(given_pointers)
    assert len(kept) <= MAX_EVENT_POINTERS
    for pointer in given_pointers:
        assert any(f"{pointer}/".startswith(f"{each}/") for each in kept)
    for each in kept:
        assert any(f"{pointer}/".startswith(f"{each}/") for pointer in given_pointers)


def test_thousands_of_places_become_what_they_are_in():
    """An event must not grow with them."""
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
    """Whoever marks nothing pays for nothing."""
    assert has_sensitive_fields(definition({"a": {"type": "own", **fields}})) is is_marked
    assert has_sensitive_fields(definition({"a": {}}, input={"properties": {"x": MARKED}}))


def test_a_visual_editor_marks_with_the_same_words():
    """In the data of its nodes, as every other field of a node."""
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
def test_misuse_is_reported_with_its_place(document, place, why):
    """As every problem of a definition is."""
    document = dict(document)
    node = {"type": "log", "with": {"message": "x"}, **document.pop("node", {})}
    found = validate({"id": "w", "nodes": {"n": node}, **document}, SHIPPED).problems
    assert [(each.pointer, each.detail) for each in found] == [(place, why)]


def test_what_an_input_lacks_is_said_without_what_nobody_is_shown():
    """Problems end up in errors of parents, and in dead letters."""
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
    """Return the values of places."""
    values = SensitiveValues()
    values.add(value, matching_pointers)
    return values


def test_marked_values_are_found_elsewhere():
    """Texts also within others, numbers as they are; keys give away all of what they are in."""
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


def test_what_json_escapes_is_found_as_well():
    """The search begins in what the value is written as."""
    word = 'quo"te\n\\é'
    assert marked_values(word, "").find({"a": f"<{word}>"}) == ["/a"]


def test_a_text_that_was_cut_does_not_end_with_the_half_of_a_value():
    """Messages are cut before anybody looks."""
    values = marked_values("secret-number-42", "")
    assert values.redact("x" * 2040 + "secret-n") == "x" * 2040 + MASK
    assert values.redact("short secret-n") == "short secret-n"
    again = marked_values("ab" * 100_000, "")
    assert again.redact("x" * 2042 + "ababab") == "x" * 2042 + MASK
    assert again.redact("b" * 2048) == "b" * 2048


@pytest.mark.parametrize("value", ["x" * 1_000_000, [f"<{n:06}>" for n in range(5000)]])
def test_of_too_many_marked_values_all_is_marked_in_which_they_might_be(value):
    """To look for each would keep a worker for seconds, at every event."""
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
def test_with_its_places_masked_a_value_has_no_marked_text_left(value, word):
    """Wherever it is: in texts, in keys, in depth."""
    wrapped = {"a": value, "b": [f"x{word}y"], "c": {word: value}}
    seen = mask_value(wrapped, marked_values(word, "").find(wrapped))
    assert not has(seen, word)


def has(value: Any, word: str) -> bool:
    """Tell whether a text of a value has a word in it."""
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
def test_a_signal_is_marked_by_who_waits_for_it(wait, found):
    """By the form, by the node, and by the values that are marked already."""
    data = {"pin": "1", "note": "for 4111-1111"}
    signal = Command("e", "resolve", "c", data=data, event=[{"x": 1}])
    event = commands.request_resolve(waiting_state(**wait), signal, 0.0)
    assert event is not None
    assert event.data.sensitive == found


def test_a_waiting_entry_is_shown_without_what_is_marked():
    """Its other fields are as they are."""
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


def test_places_under_long_keys_are_marked_in_little_memory():
    """Spelled out, ten thousand places under a key of a megabyte would fill any."""
    key = "k" * 1_000_000
    value = {key: {str(number): "4111-1111" for number in range(10_000)}}
    schema = {"properties": {key: {"additionalProperties": MARKED}}}
    assert sensitive_pointers(schema, value) == [""]
    assert marked_values("4111-1111", "").find(value) == [""]
    items = {key: [{"a": 1}] * 10_000}
    assert matching_pointers([f"/{key}/*/a"], items) == [""]
