"""Secrets in definitions: where they may be named, and how."""

from typing import Any

import pytest

from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.node_types import SHIPPED, NodeType
from tailrace_shared.workflow.validation import validate

TYPES = {**SHIPPED, "own": NodeType("own", open=True, secrets=True)}
RECORDED = "secrets are not allowed here, because the result is recorded"
ALONE = "a secret must be used as"


def problems_of(node: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    """Return what is wrong with a workflow of one node, with pointers from the node on."""
    found = validate({"id": "w", "nodes": {"n": node}, **fields}, TYPES).problems
    return [(each.pointer.removeprefix("/nodes/n"), each.detail) for each in found]


@pytest.mark.parametrize(
    "node",
    [
        {
            "type": "http",
            "with": {
                "url": "https://x/${secrets.path}?k=${secrets.key}",
                "headers": {"authorization": "Bearer ${secrets.token}"},
                "query": {"key": '${secrets["api-key"]}'},
                "json": {"deep": ["${ secrets.token }"]},
            },
        },
        {"type": "own", "with": {"anything": "${secrets.token}"}},
        {
            "type": "map",
            "with": {
                "for_each": "[1]",
                "do": {"type": "http", "with": {"url": "https://x/${item}?k=${secrets.key}"}},
            },
        },
    ],
)
def test_nodes_whose_parameters_are_not_recorded_take_secrets(node):
    """Anywhere in what they are given, also for each item of a map."""
    assert problems_of(node) == []


@pytest.mark.parametrize(
    ("node", "place"),
    [
        ({"type": "transform", "with": {"value": ["${secrets.x}"]}}, "/with/value/0"),
        (
            {"type": "workflow", "with": {"id": "c", "input": {"a": "${secrets.x}"}}},
            "/with/input/a",
        ),
        ({"type": "emit", "with": {"procedure": "p", "data": "${secrets.x}"}}, "/with/data"),
        ({"type": "log", "with": {"message": "it is ${secrets.x}"}}, "/with/message"),
        ({"type": "fail", "with": {"message": "${secrets.x}"}}, "/with/message"),
        ({"type": "await", "with": {"reason": "${secrets.x}"}}, "/with/reason"),
        ({"type": "delay", "with": {"duration": "${secrets.x}"}}, "/with/duration"),
        ({"type": "simulate", "with": {"duration": "${secrets.x}"}}, "/with/duration"),
        (
            {
                "type": "map",
                "with": {
                    "for_each": "[1]",
                    "do": {"type": "transform", "with": {"value": "${secrets.x}"}},
                },
            },
            "/with/do/with/value",
        ),
    ],
)
def test_nodes_whose_parameters_are_recorded_take_none(node, place):
    """The problem names the type, and those that would do."""
    ((found, detail),) = problems_of(node)
    assert found == place
    assert "takes no secrets, because its parameters are recorded; use http" in detail


def test_no_secret_may_decide_what_is_recorded():
    """Conditions, lists, keys and outputs tell of what they are made of."""
    node = {"type": "own", "when": 'secrets.x == "a"'}
    assert [place for place, detail in problems_of(node) if RECORDED in detail] == ["/when"]
    awaits = {"type": "await", "with": {"triggers": ["p"], "match": "event.x == secrets.x"}}
    assert [place for place, detail in problems_of(awaits) if RECORDED in detail] == ["/with/match"]
    each = {"type": "map", "with": {"for_each": "[secrets.x]", "do": {"type": "own", "with": {}}}}
    assert [place for place, detail in problems_of(each) if RECORDED in detail] == [
        "/with/for_each"
    ]
    outside = problems_of(
        {"type": "own"},
        output={"x": "${secrets.x}"},
        concurrency={"limit": 1, "key": "secrets.x"},
    )
    assert sorted(place for place, detail in outside if RECORDED in detail) == [
        "/concurrency/key",
        "/output/x",
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "secrets",
        "secrets.a + secrets.b",
        "base64.encode(secrets.a)",
        "secrets.a.substring(0, 2)",
        "secrets.a.b",
        "size(secrets.a)",
        "secrets[input.name]",
        'secrets["a" + "b"]',
        'secrets["../x"]',
        'secrets.a == "x" ? 1 : 2',
        "[secrets.a]",
    ],
)
def test_nothing_is_computed_with_a_secret(expression):
    """What came of it could not be recognised, and kept out of logs."""
    ((place, detail),) = problems_of({"type": "own", "with": {"x": f"${{{expression}}}"}})
    assert place == "/with/x"
    assert ALONE in detail


def test_the_name_of_a_secret_is_short():
    """It is a part of a path, and of the name of a variable."""
    ((_place, detail),) = problems_of({"type": "own", "with": {"x": f"${{secrets.{'x' * 65}}}"}})
    assert detail == "the name of a secret must be at most 64 characters long"


@pytest.mark.parametrize("source", ["secrets.a_b", " secrets . a_b ", "secrets['a_b']"])
def test_an_expression_tells_which_secret_it_is(source):
    """However it is spelled."""
    assert compile_expression(source).secret == "a_b"


def test_secrets_in_texts_of_expressions_are_none():
    """A text is no reference."""
    assert compile_expression('"secrets.a"').secret is None
    assert problems_of({"type": "transform", "with": {"value": '${"secrets.a"}'}}) == []
