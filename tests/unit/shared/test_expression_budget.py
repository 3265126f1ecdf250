"""The cost of expressions: too expensive ones are refused before they are evaluated."""

from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.errors import ExpressionError, InvalidExpressionError
from tailrace_shared.workflow.expressions.budget import Budget, TooExpensiveError
from tailrace_shared.workflow.expressions.expression import compile_expression
from tailrace_shared.workflow.expressions.template import compile_template

ITEMS = [{"price": float(i), "name": f"item {i}", "tags": ["a", "b"]} for i in range(200)]
LARGE: dict[str, Any] = {
    "n": list(range(50_000)),
    "xs": list(range(1900)),
    "names": [f"name {i}" for i in range(1900)],
    "text": "x" * 200_000,
    "pattern": "(?:.?){300}a{300}b",
    "records": [{"id": i, "tags": ["a"] * 20} for i in range(5000)],
}


@pytest.mark.parametrize(
    "source",
    [
        "input.items.map(i, i.price)",
        "input.items.filter(i, i.price > input.least).size()",
        "input.items.map(i, i.tags.map(t, t + i.name)).size()",
        "input.items.exists(i, i.name == execution.id)",
        "sum(input.items.map(i, i.price)) > 10.0",
        "'a,b'.split(',').join('-')",
        "input.items.all(i, i.name.matches('^item [0-9]+$'))",
        "input.items.map(i, i.name).distinct().size()",
        "input.items[size(input.items) - 1].name",
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
        "input.names.map(a, a).join(input.text)",
        "input.text.replace('', input.text)",
        "input.xs.map(x, input.text + input.text)",
        "input.xs.map(x, input.text)",
        "input.xs.map(x, [input.text, input.text])",
        "input.xs.map(x, input.text.upperAscii())",
        "input.text.matches(input.pattern)",
        "input.names.all(a, !(a + input.text).matches('nothing'))",
        "input.text.split('')",
        "+".join(["input.text"] * 100),
        "+".join(["input.n"] * 100),
        "[input.n, input.n, input.n] == [input.n, input.n, input.n]",
        "input.xs.exists(x, x > 5000 || input.text.contains('y')) || true",
        "input.text.upperAscii() == 'A' || true",
    ],
)
def test_what_costs_too_much_is_refused(source: str):
    """The error names the setting, also where ``||`` would hide an error."""
    with pytest.raises(TooExpensiveError, match=r"more than 10000 steps \(TAILRACE_EXPRESSION_B"):
        compile_expression(source).evaluate({"input": LARGE})


@pytest.mark.parametrize(
    "source",
    [
        "input.n.size() > 3",
        "size(input.records) > 3",
        "input.records[4999].id",
        "input.records[input.xs[7]].tags.size()",
        "input.records",
        "input.records[0].tags[0] == 'a'",
    ],
)
def test_a_part_of_a_large_value_costs_what_the_part_does(source: str):
    """The size and the elements of a large list are read where it is."""
    budget = Budget()
    compile_expression(source).evaluate({"input": LARGE}, budget)
    assert budget.spent < 50


def test_a_value_costs_nothing_where_only_its_neighbour_is_named():
    """An evaluation copies what it names, not the object around it."""
    budget = Budget()
    source = "input.xs[1] == 1 && input.small == 'a' && has(input.small) && !has(input.none)"
    compile_expression(source).evaluate({"input": {**LARGE, "small": "a"}}, budget)
    assert budget.spent < 50


def test_the_expressions_of_a_template_share_a_budget():
    """Ten that are affordable alone are too expensive together."""
    expression = "${input.xs.filter(x, x > 3).size()}"
    context = {"input": LARGE}
    compile_template({"one": expression}).render(context)
    with pytest.raises(TooExpensiveError, match="TAILRACE_EXPRESSION_BUDGET"):
        compile_template([expression] * 10).render(context)


def test_texts_that_a_template_builds_are_charged():
    """A text that names a large value a hundred times would be large."""
    with pytest.raises(TooExpensiveError):
        compile_template("-${input.text}" * 100).render({"input": LARGE})


def test_a_template_may_not_refer_to_a_large_value_a_thousand_times():
    """The value is one object here, but a thousand copies in the node's parameters."""
    template = compile_template(["${input.text}"] * 1000)
    with pytest.raises(TooExpensiveError, match="refers to more than 33554432 bytes"):
        template.render({"input": LARGE})
    assert len(compile_template(["${input.text}"] * 100).render({"input": LARGE})) == 100


def test_an_error_in_a_loop_is_that_of_its_body():
    """The error is the one that the body raised, not that of the call which stands for the loop."""
    with pytest.raises(ExpressionError, match="no such field: nothing"):
        compile_expression("[{'a': 1}].map(x, x.nothing).size() > 0").evaluate({})


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("[2, 1].exists(x, 1 / (x - 1) > 5 || x == 2)", True),
        ("[1, 2].exists(x, x / 0 > 1 || x == 2)", True),
        ("[1, 0].all(x, 1 / x > 5)", False),
        ("false && [1].all(x, x / 0 > 1)", False),
        ("[1].all(x, x / 0 > 1) || true", True),
    ],
)
def test_a_decisive_element_outweighs_failures(source: str, value: bool):
    """``all`` and ``exists`` absorb errors as ``&&`` and ``||`` do."""
    assert compile_expression(source).evaluate({}) is value


def test_an_expression_has_at_most_32_loops():
    """Chains of loops are deep, however short each is."""
    compile_expression("[1]" + ".map(x, x)" * 32)
    with pytest.raises(InvalidExpressionError, match="more than 32 loops"):
        compile_expression("[1]" + ".map(x, x)" * 33)


NUMBERS = st.sampled_from(["0", "1", "2", "3", "x", "n.a", "xs[1]", "size(xs)", "xs.size()"])
CONDITIONS = st.sampled_from(
    ["x > 1", "x == n.a", "x in xs", "x / (x - 1) > 0", "has(n.a)", "has(n.z)", "n.z > 1", "true"]
)
LISTS = st.recursive(
    st.sampled_from(["xs", "[1, 2, 3]", "[0]", "[]", "n.list", "(xs + [x])", "{'a': 1}"]),
    lambda lists: st.one_of(
        st.builds("{}.filter(x, {})".format, lists, CONDITIONS),
        st.builds("{}.map(x, {})".format, lists, NUMBERS),
        st.builds("{}.map(x, {}, {} + 1)".format, lists, CONDITIONS, NUMBERS),
        st.builds("({0} + {0})".format, lists),
        st.builds("[{}.size()]".format, lists),
    ),
    max_leaves=3,
)
SOURCES = st.one_of(
    LISTS,
    st.builds("{}.exists_one(x, {})".format, LISTS, CONDITIONS),
    st.builds("!{}.all(x, {}) ? {} : 5".format, LISTS, CONDITIONS, NUMBERS),
    st.builds("{}.exists(x, {}) || n.a == {}".format, LISTS, CONDITIONS, NUMBERS),
    st.builds("{}[{}] == {}".format, LISTS, NUMBERS, NUMBERS),
    st.builds("{{'k': {}, \"]\": {}}}".format, LISTS, NUMBERS),
)


@given(SOURCES)
def test_loops_have_the_values_of_the_library(source: str):
    """A part that is evaluated here has the library's value, or fails where the library fails."""
    context = {"xs": [1, 2, 3], "n": {"a": 2, "list": [1]}, "x": 7}
    ours: Any
    try:
        ours = compile_expression(source).evaluate(context)
    except InvalidExpressionError:
        return  # nested too deeply
    except ExpressionError:
        ours = ExpressionError
    try:
        theirs = cel.compile(source).execute(context)
    except Exception:  # noqa: BLE001 - the library has many ways to fail
        # It lacks that `all` and `exists` absorb failures.
        is_absorbed = ".all(" in source or ".exists(" in source
        assert ours is ExpressionError or is_absorbed
    else:
        assert ours == theirs
