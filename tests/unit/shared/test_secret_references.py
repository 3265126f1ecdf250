"""References to secrets in definitions."""

from typing import Any

import pytest

from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.node_types import SHIPPED, NodeType
from tailrace_shared.workflow.validation import validate

TYPES = {**SHIPPED, "own": NodeType("own", open=True, secrets=True)}
RECORDED = "secrets are not allowed here, because the result is recorded"
ALONE = "a secret must be used as"


def problems_of(node: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    """Return the problems of a workflow of one node, with pointers relative to the node."""
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
    """References are allowed anywhere in the parameters, also in the items of a map."""
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
    """The problem names the type, and types that take secrets."""
    ((found, detail),) = problems_of(node)
    assert found == place
    assert "takes no secrets, because its parameters are recorded; use http" in detail


def test_no_secret_may_decide_what_is_recorded():
    """The results of conditions, lists, keys and outputs are recorded."""
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
def test_expressions_cannot_compute_with_secrets(expression):
    """The result could not be redacted in logs."""
    ((place, detail),) = problems_of({"type": "own", "with": {"x": f"${{{expression}}}"}})
    assert place == "/with/x"
    assert ALONE in detail


def test_the_name_of_a_secret_is_short():
    """It becomes part of a path and of a variable name."""
    ((_place, detail),) = problems_of({"type": "own", "with": {"x": f"${{secrets.{'x' * 65}}}"}})
    assert detail == "the name of a secret must be at most 64 characters long"


@pytest.mark.parametrize("source", ["secrets.a_b", " secrets . a_b ", "secrets['a_b']"])
def test_an_expression_knows_its_secret(source):
    """All notations are recognised."""
    assert compile_expression(source).secret == "a_b"


def test_secret_names_in_string_literals_are_ignored():
    """A string literal is not a reference."""
    assert compile_expression('"secrets.a"').secret is None
    assert problems_of({"type": "transform", "with": {"value": '${"secrets.a"}'}}) == []
