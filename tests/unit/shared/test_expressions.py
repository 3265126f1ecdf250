"""CEL expressions: their names, values and errors."""

import contextlib
import math
from typing import Any

import cel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrace_shared.errors import ExpressionError, InvalidExpressionError
from tailrace_shared.workflow.expressions import expression as expression_module
from tailrace_shared.workflow.expressions.expression import MAX_LENGTH, compile_expression
from tailrace_shared.workflow.expressions.template import InvalidTemplateError, compile_template

CONTEXT: dict[str, dict[str, Any]] = {
    "input": {"name": "Ada", "n": 3, "half": 0.5, "list": [1, 2, 3], "none": None, "yes": True},
    "nodes": {
        "parse": {"output": {"total": 12.5}, "status": "success", "error": None},
        "a-b": {"output": [1], "status": "success", "error": None},
    },
    "execution": {"id": "e1", "workflow": "w", "started_at": None},
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "c", "in_", "size"]), children, max_size=4)
    ),
    max_leaves=12,
)

WORDS = st.sampled_from(
    [
        *("input", "nodes", "execution", "parse", "x", "y", "true", "null", "in", "size", "has"),
        *(
            ".",
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            ",",
            ":",
            "?",
            "+",
            "-",
            "*",
            "/",
            "%",
            "!",
            "&&",
            "||",
        ),
        *(
            "==",
            "<",
            ">=",
            "1",
            "-1",
            "0",
            "2.5",
            "1u",
            "1e308",
            "9223372036854775807",
            "''",
            "'a'",
        ),
        *("name", "list", "n", "none", "total", ".map(", ".exists(", ".filter(", "x,", ".all("),
        *("int(", "string(", "duration(", "timestamp(", "'2024-01-01T00:00:00Z'", "'1s'", "b'a'"),
        *(
            ".trim()",
            ".sort()",
            ".substring(",
            ".first()",
            "math.abs(",
            ".split(",
            ".matches(",
            "[9]",
        ),
        *("optional.none()", "r'\\'", '"""', "'", '"', "//", "\n", " ", "$", "`", "é", "\\"),
    ]
)


def evaluate(source, context=None):
    """Compile and evaluate."""
    return compile_expression(source).evaluate(CONTEXT if context is None else context)


def references(source):
    """Return the names and nodes of an expression."""
    expression = compile_expression(source)
    return set(expression.names), None if expression.nodes is None else set(expression.nodes)


@pytest.mark.parametrize(
    ("source", "names", "nodes"),
    [
        ("1 + 1", set(), set()),
        ("input.n > 1 && execution.id != ''", {"input", "execution"}, set()),
        ("nodes.parse.output.total", {"nodes"}, {"parse"}),
        ('nodes["a-b"].output', {"nodes"}, {"a-b"}),
        ("nodes['a-b'].output", {"nodes"}, {"a-b"}),
        ("nodes [ 'a-b' ] . output", {"nodes"}, {"a-b"}),
        ("nodes.parse.status == 'x' || nodes['a-b'].status == 'y'", {"nodes"}, {"parse", "a-b"}),
        ("input.list.map(x, x + nodes.parse.output.total)", {"input", "nodes"}, {"parse"}),
        ("nodes", {"nodes"}, None),
        ("nodes[input.name]", {"nodes", "input"}, None),
        ("nodes.exists(n, nodes[n].status == 'error')", {"nodes"}, None),
        ("nodes.size()", {"nodes"}, None),
        ("size(nodes)", {"nodes"}, None),
        # A string written in any but the plainest way may name any node.
        ('nodes[r"parse"]', {"nodes"}, None),
        ('nodes["\\x70arse"]', {"nodes"}, None),
        ('nodes["""parse"""]', {"nodes"}, None),
        # Inside strings and comments nothing refers to anything.
        ("'nodes.y' + \"nodes.z\" + input.name", {"input"}, set()),
        ("r'\\' + input.name + 'nodes.y'", {"input"}, set()),
        ("'''it's nodes.y''' + input.name", {"input"}, set()),
        ("input.n // nodes.y isn't meant", {"input"}, set()),
        # Keys of a map are expressions, fields after a dot are not.
        ('{"a": input.n}', {"input"}, set()),
        ("{x: input.n}", {"x", "input"}, set()),
        ("'a' in {y: 1}", {"y"}, set()),
        ("input.nodes.y", {"input"}, set()),
        ("{'nodes': 1}.nodes", set(), set()),
        # A loop's variable is bound inside the loop alone.
        ("input.list.map(x, x * 2)", {"input"}, set()),
        ("input.list.map(x, x) + [x]", {"input", "x"}, set()),
        ("input.list.map(input, input)", {"input"}, set()),
        ("[1].map(nodes, nodes)", set(), set()),
        ("[1].exists(nodes, nodes == 1) && nodes.parse.status == 'ok'", {"nodes"}, {"parse"}),
        ("nodes.parse.output.map(nodes, nodes)", {"nodes"}, {"parse"}),
        ("[1].map(x, [2].map(y, x + y + z))", {"z"}, set()),
        ("[1].map(x, x > 0, x + y)", {"y"}, set()),
        # Functions, their namespaces and types are no names of ours.
        ("math.greatest(input.n, 1)", {"input"}, set()),
        ("type(input.n) == int", {"input"}, set()),
    ],
)
def test_an_expression_knows_its_names_and_nodes(source, names, nodes):
    """The context is built from them, so they must be complete."""
    assert references(source) == (names, nodes)


@pytest.mark.parametrize(
    "source",
    [
        "input.list.map(input, input)",
        "[1].exists(nodes, nodes == 1) && nodes.parse.status == 'success'",
        'nodes["\\x70arse"].status',
        "input.n // nodes.parse",
        "type(input.n) == int",
        "nodes.exists(n, nodes[n].status == 'success')",
    ],
)
def test_an_expression_needs_only_its_names(source):
    """The value is the same on a context of its names only."""
    expression = compile_expression(source)
    wanted = {name: CONTEXT[name] for name in expression.names}
    if expression.nodes is not None and "nodes" in wanted:
        wanted["nodes"] = {node: CONTEXT["nodes"][node] for node in expression.nodes}
    assert expression.evaluate(wanted) == expression.evaluate(CONTEXT)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("input.n * 2", 6),
        ("input.name", "Ada"),
        ("input . name", "Ada"),
        ("nodes.parse.output.total > 10.0", True),
        ("input.none", None),
        ("true", True),
        ("null", None),
        ("{'a': [input.n]}", {"a": [3]}),
        ("{1: 2}", {"1": 2}),
        ("timestamp('2024-01-01T00:00:00Z')", "2024-01-01T00:00:00Z"),
        ("duration('90s')", "PT90S"),
        ("b'abc'", "YWJj"),
        ("has(input.nothing)", False),
        ("'name' in input", True),
    ],
)
def test_expressions_give_json(source, value):
    """Timestamps, durations and bytes are converted to JSON types."""
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("math.greatest(input.n, 10)", 10),
        ("math.abs(-2)", 2),
        ("math.round(2.5)", 3.0),
        ("sets.contains([1, 2], [1])", True),
        ("base64.encode(b'a')", "YQ=="),
        ("strings.quote('a')", '"a"'),
        ("' a '.trim()", "a"),
        ("'a,b'.split(',')", ["a", "b"]),
        ("['a', 'b'].join('-')", "a-b"),
        ("[3, 1, 2].sort()", [1, 2, 3]),
        ("[1, 1, 2].distinct()", [1, 2]),
        ("[[1], [2]].flatten()", [1, 2]),
        ("'abc'.substring(1)", "bc"),
        ("'Abc'.lowerAscii()", "abc"),
        ("[1, 2].sum() + [4, 3].max()", 7),
        ("'abc'.contains('b')", True),
    ],
)
def test_extension_functions_are_available(source, value):
    """The functions of cel-go's libraries work with and without a namespace."""
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("size('Müller')", 6),
        ("'日本語'.size()", 3),
        ("size('😀')", 1),
        ("size (input.text)", 3),
        ("input.text . size ( )", 3),
        ("[input.text, 'ä'].map(t, t.size() + size(t))", [6, 2]),
        ("input.text.size() == input.text.split('').size()", True),
        ("input.text.substring(0, input.text.size() - 1)", "日本"),
        ("size(b'ä')", 2),
        ("size([1, 'ä']) + size({'a': 1})", 3),
        ("input.size + 'size('.size()", 10),
        ("size(input.text + 'size(\\'ä')", 10),
    ],
)
def test_the_size_of_a_text_counts_code_points(source, value):
    """Not bytes, however the function is written; other sizes are unchanged."""
    assert evaluate(source, {"input": {"text": "日本語", "size": 5}}) == value


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_the_size_of_any_text(text):
    """The size equals the number of code points."""
    assert evaluate("size(input) == input.size() ? size(input) : -1", {"input": text}) == len(text)


@pytest.mark.parametrize("source", ["size(1)", "size(null)", "input.n.size()"])
def test_what_has_no_size_fails_in_the_words_of_the_author(source):
    """The error names the function as it is written in the definition."""
    with pytest.raises(ExpressionError, match=r"size\(\): takes a string, bytes, a list or a map"):
        evaluate(source)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("timestamp('2024-07-15T22:30:45.123Z').getHours('Europe/Vienna')", 0),
        ("timestamp('2024-07-15T22:30:45.123Z').getDate('Europe/Vienna')", 16),
        ("timestamp('2024-07-15T22:30:45.123Z').getDayOfMonth('+02:00')", 15),
        ("timestamp('2024-07-15T22:30:45.123Z').getDayOfWeek('02:00')", 2),
        ("timestamp('2024-07-15T22:30:45.123Z').getDayOfWeek('-08:00')", 1),
        ("timestamp('2024-07-15T22:30:45.123Z').getDayOfYear('UTC')", 196),
        ("timestamp('2024-12-31T23:30:00Z').getFullYear('Europe/Vienna')", 2025),
        ("timestamp('2024-12-31T23:30:00Z').getMonth('Europe/Vienna')", 0),
        ("timestamp('2024-07-15T22:30:45.123Z').getMinutes('Asia/Kolkata')", 0),
        ("timestamp('2024-07-15T22:30:45.123Z').getSeconds('UTC')", 45),
        ("timestamp('2024-07-15T22:30:45.123Z').getMilliseconds('UTC')", 123),
        ("timestamp('2024-07-15T22:30:45.123Z').getHours()", 22),
        ("duration('3661s').getHours()", 1),
        ("string(true) + string(input.yes) + string(1 > 2)", "truetruefalse"),
        ("string(1) + string(2.5) + string('a') + string(b'b')", "12.5ab"),
        ("string(duration('-90.25s'))", "-90.25s"),
        ("string(timestamp('2024-01-01T01:30:00+01:00'))", "2024-01-01T00:30:00Z"),
        ("base64.decode('aGk') == b'hi'", True),
        ("[1, true, 1.0, [true], [1]].distinct()", [1, True, [True], [1]]),
        ("sets.contains([1], [true])", False),
        ("sets.equivalent([1, 2.0], [2, 1, 1])", True),
        ("sets.intersects([{'a': 1}], [{'a': 1.0}])", True),
        ("timestamp(0)", "1970-01-01T00:00:00Z"),
        ("timestamp(-1).getFullYear()", 1969),
        ("int(timestamp('2024-01-01T00:00:00.9Z'))", 1704067200),
        ("int('7') + int(2.9)", 9),
    ],
)
def test_conversions_and_times_of_the_specification(source, value):
    """Every overload of CEL exists, with and without a time zone."""
    assert evaluate(source) == value


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("timestamp('2024-01-01T00:00:00Z').getHours('Nowhere/Else')", "is not a time zone"),
        ("timestamp('2024-01-01T00:00:00Z').getHours('../etc/passwd')", "is not a time zone"),
        ("timestamp('2024-01-01T00:00:00Z').getHours('+99:00')", "is not a time zone"),
        ("timestamp('2024-01-01T00:00:00Z').getHours(2)", "a time zone is a string"),
        ("duration('1s').getHours('UTC')", r"getHours\(\): with a time zone takes a timestamp"),
        ("timestamp(9223372036854775807)", "is not between the years 1 and 9999"),
        ("timestamp(1.5)", "takes an RFC 3339 time or Unix seconds"),
        ("string(null)", r"string\(\): takes a scalar value, not null"),
        ("string([1])", "takes a scalar value, not a list"),
        (r"string(b'\xff')", r"string\(\): 'utf-8' codec can't decode"),
        ("'abc'.charAt(true)", r"charAt\(\): does not take booleans"),
        ("math.sign(true)", r"math.sign\(\): does not take booleans"),
        ("math.abs(-9223372036854775808)", "does not fit in 64 bits"),
        ("int(true)", "takes a number, a numeric string or a timestamp"),
        ("duration(5)", r"duration\(\) does not take values of these types"),
        ("(1).startsWith('a')", r"startsWith\(\) does not take values of these types"),
    ],
)
def test_a_function_explains_the_values_it_does_not_take(source, reason):
    """A known function is never reported as undefined."""
    with pytest.raises(ExpressionError, match=reason):
        evaluate(source)


@pytest.mark.parametrize(
    "source",
    [
        *("input.list[9]", "input.list[-1]", "input.nothing", "input.name.first", "input.none.x"),
        *("nothing", "1 / 0", "1 % 0", "input.n + 'a'", "input.half + 1", "int('x')", "'a' < 1"),
        *("9223372036854775807 + 1", "1.0 / 0.0", "0.0 / 0.0", "[-1.0 / 0.0]", "{'a': 0.0 / 0.0}"),
        *("{true: 1}", "{1.5: 1}", "Type{a: 1}", "'abc'.substring(9)", "[].max()"),
        *("[1, 'a'].sort()", "base64.decode('!')", "'a'.matches('(')", "timestamp('x')"),
        *("input['nothing']", "[1][1u]"),
    ],
)
def test_a_failed_evaluation_is_an_expression_error(source):
    """Every failure is one kind of error, which names the expression."""
    with pytest.raises(ExpressionError) as caught:
        evaluate(source)
    assert source in str(caught.value)


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("siez(input.x) > 1", 1),
        ("input.x == nosuch(1)", 12),
        ("'a'.nope()", 5),
        ("[1].first()", 5),
        ("lists.range(9)", 7),
        ("optional.none()", 10),
    ],
)
def test_unknown_functions_are_refused_by_the_compiler(source, column):
    """The error has the column and the nearest known name."""
    with pytest.raises(InvalidExpressionError, match="there is no function") as caught:
        compile_expression(source)
    assert caught.value.column == column


def test_every_listed_function_exists():
    """The evaluator has all functions of the list."""
    for name in sorted(expression_module._FUNCTIONS):
        calls = (f"'a'.{name}('a')", f"{name}('a')", f"{name}([1])", f"math.{name}(1)")
        spaces = (f"sets.{name}([1], [1])", f"strings.{name}('a')", f"base64.{name}(b'')")
        outcomes = []
        for source in (*calls, *spaces, f"timestamp('2024-01-15T10:30:00Z').{name}()"):
            try:
                outcomes.append(str(compile_expression(source).evaluate({})))
            except ExpressionError as error:
                outcomes.append(str(error))
        assert any("Undefined" not in outcome for outcome in outcomes), name


@given(st.lists(WORDS, min_size=1, max_size=12))
def test_an_evaluation_raises_only_expression_errors(words):
    """Random sequences of tokens are refused or evaluated."""
    try:
        value = evaluate("".join(words))
    except ExpressionError:
        return
    msgspec.json.encode(value)


@given(st.text(max_size=40))
def test_any_text_is_compiled_or_refused(text):
    """The compiler receives untrusted text."""
    with contextlib.suppress(InvalidExpressionError):
        compile_expression(text)


@pytest.mark.parametrize(
    "source",
    [
        "(" * 1300 + "1" + ")" * 1300,
        "[" * 1300 + "1" + "]" * 1300,
        "!" * 4000 + "true",
        "1" + "+1" * 2000,
        "true" + "||true" * 500,
        "input" + "[0]" * 1300,
        "input" + ".a" * 2000,
    ],
)
def test_deep_expressions_do_no_harm(source):
    """Deep nesting gives a value or an ExpressionError, and never crashes the process."""
    with contextlib.suppress(ExpressionError):
        evaluate(source)


@given(JSON, st.lists(st.sampled_from(["a", "b", "c", "in_", "size"]), max_size=4))
def test_a_plain_path_equals_its_evaluation_by_cel(value, steps):
    """The shortcut returns the same value, and fails in the same cases."""
    source = ".".join(["input", *steps])
    try:
        expected = cel.compile(source).execute({"input": value})
    except Exception:  # noqa: BLE001 - the evaluator has many ways to fail
        with pytest.raises(ExpressionError):
            evaluate(source, {"input": value})
    else:
        assert evaluate(source, {"input": value}) == expected


def test_a_plain_path_keeps_the_value_itself():
    """A number beyond 64 bits would become a float in the evaluator."""
    assert evaluate("input.n", {"input": {"n": 2**70}}) == 2**70


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("1 +", 4),
        ("a b", 3),
        ("input.n >", 10),
        ("[1,\n2 3]", 7),
        ("", 1),
        ("input.in", 7),
        ("'abc", 1),
    ],
)
def test_a_syntax_error_has_its_column(source, column):
    """The column counts from the start of the text, line breaks included."""
    with pytest.raises(InvalidExpressionError) as caught:
        compile_expression(source)
    assert caught.value.column == column
    assert f"(column {column})" in str(caught.value)


def test_an_expression_may_have_4096_characters():
    """One more character is refused."""
    longest = "'" + "a" * (MAX_LENGTH - 2) + "'"
    assert evaluate(longest) == "a" * 4094
    with pytest.raises(InvalidExpressionError, match="longer than 4096"):
        compile_expression(longest + " ")


def test_loops_nest_at_most_two_deep():
    """A third level would take a billion steps on a thousand items."""
    two = "input.list.map(x, input.list.map(y, {}))"
    assert evaluate(two.format("x + y")) == [[2, 3, 4], [3, 4, 5], [4, 5, 6]]
    with pytest.raises(InvalidExpressionError, match="loops nested more than 2 deep") as caught:
        compile_expression(two.format("input.list.exists(z, z > y)"))
    assert caught.value.column == 54
    beside = "input.list.all(x, x > 0)"
    assert evaluate(f"{beside} && {beside} && {beside}") is True


class TestTemplates:
    """JSON values with expressions in their strings."""

    @pytest.mark.parametrize(
        ("template", "value"),
        [
            ("plain", "plain"),
            ("${input.n}", 3),
            ("${input.list}", [1, 2, 3]),
            ("${input.none}", None),
            ("n = ${input.n}", "n = 3"),
            ("${input.name}!", "Ada!"),
            ("${input.n}${input.n}", "33"),
            ("${input.none} ${input.yes} ${input.list}", "null true [1,2,3]"),
            (" ${input.n}", " 3"),
            ("$${input.n}", "${input.n}"),
            ("$$${input.n}", "$${input.n}"),
            ("$${${input.n}}", "${3}"),
            ("$", "$"),
            ("$$", "$$"),
            ("costs 5$ or $6", "costs 5$ or $6"),
            ("${{'a': {'b': input.n}}}", {"a": {"b": 3}}),
            ("${'}'}", "}"),
            ("${'{' + input.name + \"}\"}", "{Ada}"),
            ("${'''it's }'''}", "it's }"),
            ("${r'\\'}}", "\\}"),
            ("${'\\''}", "'"),
            ("it's ${input.name}'s", "it's Ada's"),
            ("${input.n}}", "3}"),
            ({"a": ["${input.n}", {"b": "${input.name}"}], "${k}": 1}, None),
            (5, 5),
            (None, None),
            ([], []),
        ],
    )
    def test_expressions_become_their_values(self, template, value):
        """A string of one expression keeps the type; in a longer one values are text."""
        if isinstance(template, dict):
            value = {"a": [3, {"b": "Ada"}], "${k}": 1}
        assert compile_template(template).render(CONTEXT) == value

    @given(JSON)
    def test_json_without_a_dollar_stays_itself(self, value):
        """Only ``$`` is special in a template."""
        undollared = msgspec.json.decode(msgspec.json.encode(value).replace(b"$", b"S"))
        template = compile_template(undollared)
        assert template.expressions == ()
        assert template.render({}) == undollared

    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
    def test_any_text_can_be_escaped(self, text):
        """``$${`` renders as ``${``."""
        assert compile_template(text.replace("${", "$${")).render({}) == text

    @given(st.lists(st.sampled_from(["$", "{", "}", "'", '"', "input.n", " ", "\\", "1", "+"])))
    def test_any_template_is_rendered_or_refused(self, parts):
        """Incomplete expressions are refused without other exceptions."""
        with contextlib.suppress(ExpressionError):
            compile_template("".join(parts)).render(CONTEXT)

    def test_every_invalid_expression_is_reported_with_its_path(self):
        """The error lists all of them."""
        with pytest.raises(InvalidTemplateError) as caught:
            compile_template({"a": "${1 +}", "b": ["ok", "${"], "c": "${input.n}"})
        paths = [path for path, _error in caught.value.errors]
        assert paths == [("a",), ("b", 1)]

    @pytest.mark.parametrize("text", ["${", "${input.n", "a ${'} b", '${"}', "${{}", "${// }"])
    def test_an_expression_without_its_end_is_refused(self, text):
        """The column is its start."""
        with pytest.raises(InvalidTemplateError, match="without a matching '}'") as caught:
            compile_template(text)
        assert caught.value.errors[0][1].column == text.index("$") + 1

    def test_the_end_of_an_expression_is_found_in_linear_time(self):
        """A megabyte of unclosed quotes must not take quadratic time."""
        text = "${" + '\\"' * 500_000
        with pytest.raises(InvalidTemplateError):
            compile_template([text] * 100)

    def test_a_template_lists_its_expressions_with_their_paths(self):
        """Validation reports problems at these paths."""
        template = compile_template({"a": ["x ${input.n} ${nodes.parse.output}"]})
        assert [(path, e.source) for path, e in template.expressions] == [
            (("a", 0), "input.n"),
            (("a", 0), "nodes.parse.output"),
        ]

    def test_nan_and_infinity_are_errors(self):
        """JSON cannot represent them, and they would silently become null."""
        for source in ("${1.0 / 0.0}", "x ${[0.0 / 0.0]}"):
            with pytest.raises(ExpressionError, match="JSON"):
                compile_template(source).render({})
        assert math.isinf(cel.evaluate("1.0 / 0.0"))
