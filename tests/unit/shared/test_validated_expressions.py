"""The validation knows what expressions may read: input, outputs, statuses and fields."""

from typing import get_args

import pytest

from harness.models.invalid_definitions import TRANSFORM, problems_of
from tailrace_shared.execution.transitions import StepStatus
from tailrace_shared.workflow.expressions.references import STATUSES
from tailrace_shared.workflow.validation import validate

INPUT = {
    "type": "object",
    "properties": {
        "items": {"type": "array"},
        "customer": {"type": "object", "properties": {"name": {}, "address": {}}},
        "closed": {"properties": {"a": {}}, "additionalProperties": False},
        "open": {"properties": {"amount": {}}, "additionalProperties": True},
        "either": {"properties": {"amount": {}}, "anyOf": [{"properties": {"amounts": {}}}, True]},
        "text": {"type": "string"},
    },
}


@pytest.mark.parametrize(
    ("source", "missing", "hint"),
    [
        ("input.itms", "input.itms", "did you mean 'items'?"),
        ("input.itms.size() > 0", "input.itms", "did you mean 'items'?"),
        ("has(input.itms)", "input.itms", "did you mean 'items'?"),
        ('input["itms"][0]', "input.itms", "did you mean 'items'?"),
        ("input.customer.nmae + 'x'", "input.customer.nmae", "did you mean 'name'?"),
        ("[1].map(x, x + input.itms)", "input.itms", "did you mean 'items'?"),
        ("input.closed.quite_different", "input.closed.quite_different", ""),
    ],
)
def test_a_property_that_the_input_lacks_is_reported(source, missing, hint):
    """The expression would fail in every run, or be silently false."""
    nodes = {"n": {"type": "transform", "with": {"value": f"${{{source}}}"}}}
    ((place, detail),) = problems_of({"id": "w", "input": INPUT, "nodes": nodes})
    assert place == "/nodes/n/with/value"
    assert detail.startswith(f"the schema of the input has no property {missing!r}")
    assert hint in detail


@pytest.mark.parametrize(
    "source",
    [
        "input.items.size() + input.items[0]",
        "input.quite_different",
        "input.open.amounts",
        "input.either.amounts",
        "input.customer.name.first",
        "input.text.size()",
        "input[input.text]",
        "[{'itms': 1}].map(input, input.itms)",
        "'input.itms'",
    ],
)
def test_a_property_that_the_input_may_have_is_allowed(source):
    """An open schema does not list every property."""
    nodes = {"n": {"type": "transform", "with": {"value": f"${{{source}}}"}}}
    assert problems_of({"id": "w", "input": INPUT, "nodes": nodes}) == []
    assert problems_of({"id": "w", "nodes": nodes}) == []


def test_the_key_and_the_output_read_the_input_as_well():
    """Every expression is checked."""
    document = {
        "id": "w",
        "input": INPUT,
        "output": "${input.itms}",
        "concurrency": {"limit": 1, "key": "input.custmer"},
        "nodes": {
            "m": {
                "type": "map",
                "with": {
                    "for_each": "input.itms",
                    "do": {"type": "transform", "with": {"value": "${input.itms}"}},
                },
            }
        },
    }
    places = {place for place, _detail in problems_of(document)}
    assert places == {
        *("/output", "/concurrency/key", "/nodes/m/with/for_each"),
        "/nodes/m/with/do/with/value",
    }


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ('nodes.a.status == "failed"', "did you mean 'error'?"),
        ("nodes.a.status != 'failed'", "did you mean 'error'?"),
        ("'completed' == nodes.a.status", "did you mean 'success'?"),
        ("nodes['a'].status == 'succes'", "did you mean 'success'?"),
        ("nodes.a.status in ['skipped', 'failed']", "did you mean 'error'?"),
        ("[1].all(x, x > 0 && nodes.a.status == 'Failed')", "did you mean 'error'?"),
        ("nodes.a.status == 'purple'", "it is one of success, error, skipped"),
    ],
)
def test_a_status_that_no_node_has_is_reported(condition, hint):
    """The comparison would silently never be true."""
    nodes = {"a": TRANSFORM, "n": {**TRANSFORM, "needs": ["a"], "when": condition}}
    ((place, detail),) = problems_of({"id": "w", "nodes": nodes})
    assert place == "/nodes/n/when"
    assert "the status of a node is never" in detail
    assert hint in detail


@pytest.mark.parametrize(
    "condition",
    [
        *(f"nodes.a.status == '{status}'" for status in get_args(StepStatus)),
        "nodes.a.status in ['error', 'skipped']",
        "nodes.a.output.status == 'failed'",
        "nodes.a.status == 'suc' + 'cess'",
        "nodes.a.status.startsWith('s')",
        "nodes.a.status == nodes.a.output",
        "nodes.a.error == null || nodes.a.error.message == 'failed'",
        "execution.id + execution.workflow != string(execution.started_at)",
    ],
)
def test_the_statuses_and_fields_of_a_node_are_allowed(condition):
    """Statuses that end, and those of a node that has not settled."""
    assert set(STATUSES) == set(get_args(StepStatus))
    nodes = {"a": TRANSFORM, "n": {**TRANSFORM, "needs": ["a"], "when": condition}}
    assert problems_of({"id": "w", "nodes": nodes}) == []


@pytest.mark.parametrize(
    ("condition", "detail"),
    [
        ("nodes.a.outptu == 1", "no field 'nodes.a.outptu', did you mean 'output'?"),
        ("nodes.a.result == 1", "no field 'nodes.a.result': the fields are output, status, error"),
        ("execution.idd == ''", "no field 'execution.idd', did you mean 'id'?"),
    ],
)
def test_a_field_that_does_not_exist_is_reported(condition, detail):
    """Of a node, or of the execution."""
    nodes = {"a": TRANSFORM, "n": {**TRANSFORM, "needs": ["a"], "when": condition}}
    ((place, found),) = problems_of({"id": "w", "nodes": nodes})
    assert place == "/nodes/n/when"
    assert detail in found


def test_the_expressions_of_a_definition_have_a_total_length():
    """A worker compiles all of them; the problem is reported once."""
    value = "${[" + "1," * 2000 + "]}"
    nodes = {f"n{i}": {"type": "transform", "with": {"value": value}} for i in range(132)}
    (problem,) = validate({"id": "w", "nodes": nodes}).problems
    assert problem.detail == "the expressions have more than 524288 characters in total"
    del nodes["n131"]
    assert not validate({"id": "w", "nodes": nodes}).problems


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("nodes.ask.output.data.coment", "the form of 'ask' has no property 'coment', did you"),
        ("nodes.ask.output.data.who.nmae", "the form of 'ask' has no property 'who.nmae', did you"),
        ("nodes.ask.output['data']['coment']", "the form of 'ask' has no property 'coment'"),
        ("nodes.ask.output.dat", "the output of 'ask' has no field 'dat', did you mean 'data'?"),
        ("nodes.call.output.json", "the output of 'call' has no field 'json': the fields are"),
        ("nodes.tell.output.count", "the output of 'tell' has no field 'count': the fields are"),
        ("nodes.ask.output.data.comment + nodes.ask.output.actor", ""),
        ("nodes.ask.output.data.who.name", ""),
        ("nodes.ask.output.event.anything", ""),
        ("nodes.free.output.data.anything", ""),
        ("nodes.call.output.body.anything", ""),
    ],
)
def test_a_field_that_an_output_lacks_is_reported(source, problem):
    """It would be a mistake in every run."""
    who = {"type": "object", "properties": {"name": {"type": "string"}}}
    form = {"type": "object", "properties": {"comment": {"type": "string"}, "who": who}}
    nodes = {
        "ask": {"type": "await", "with": {"form": form}},
        "free": {"type": "await"},
        "call": {"type": "http", "with": {"url": "https://api.example"}},
        "tell": {"type": "emit", "with": {"procedure": "p"}},
        "n": {
            "type": "transform",
            "needs": ["ask", "free", "call", "tell"],
            "with": {"value": f"${{{source}}}"},
        },
    }
    found = problems_of({"id": "w", "nodes": nodes})
    assert [place for place, _ in found] == (["/nodes/n/with/value"] if problem else [])
    assert all(detail.startswith(problem) for _, detail in found)
