"""The cost check of expressions before their evaluation."""

import pytest

from tailrace_shared.errors import ExpressionError
from tailrace_shared.workflow.expressions.expression import compile_expression

ITEMS = [{"price": float(i), "name": f"item {i}", "tags": ["a", "b"]} for i in range(200)]


@pytest.mark.parametrize(
    "source",
    [
        "input.items.map(i, i.price)",
        "input.items.filter(i, i.price > input.least).size()",
        "input.items.map(i, i.tags.map(t, t + i.name)).size()",
        "input.items.exists(i, i.name == execution.id)",
        "sum(input.items.map(i, i.price)) > 10.0",
        "'a,b'.split(',').join('-')",
    ],
)
def test_ordinary_expressions_are_allowed(source: str):
    """Loops over a few hundred records are cheap."""
    context = {"input": {"items": ITEMS, "least": 3.0}, "execution": {"id": "x"}}
    compile_expression(source).evaluate(context)


@pytest.mark.parametrize(
    "source",
    [
        "input.n.map(a, input.n.map(b, a + b))",
        "input.n.map(a, input.n)",
        "input.n.all(a, a in input.n)",
        "input.n.distinct()",
        "sets.contains(input.n, input.n)",
        "input.n.map(a, string(a)).join(input.text)",
        "input.text.replace('', input.text)",
        "input.n.all(a, size(input.text) > a)",
    ],
)
def test_quadratic_time_on_a_large_input_is_refused(source: str):
    """The refusal is immediate and names the remedy."""
    context = {"input": {"n": list(range(50_000)), "text": "x" * 200_000}}
    with pytest.raises(ExpressionError, match="too many steps over"):
        compile_expression(source).evaluate(context)


def test_a_loop_without_a_result_list_may_be_long():
    """Its steps grow linearly with the list."""
    assert compile_expression("input.n.exists(a, a > 49990)").evaluate(
        {"input": {"n": list(range(50_000))}}
    )


def test_outer_values_in_a_loop_body_count_by_their_size():
    """A number is free; a list may be traversed for every element."""
    context = {"input": {"n": list(range(1500)), "least": 7}}
    kept = compile_expression("input.n.filter(a, a >= input.least).size()").evaluate(context)
    assert kept == 1493
    with pytest.raises(ExpressionError, match="too many steps over 1500 values"):
        compile_expression("input.n.map(a, input.n).size()").evaluate(context)
