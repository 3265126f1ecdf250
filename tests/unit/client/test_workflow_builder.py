"""Workflow functions compile to the definitions that YAML has."""

import datetime as dt
import keyword
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from tailrace import testing
from tailrace import workflow as build
from tailrace.cli import cli
from tailrace.definition_files import read_definitions
from tailrace.errors import DefinitionFileError
from tailrace.workflow.builder import Step
from tailrace.workflow.expressions import template_of
from tailrace.workflow.loading import load_workflows, python_of
from tailrace_shared.workflow.expressions.template import compile_template
from tailrace_worker.nodes import node


class Order(msgspec.Struct):
    """A parsed order."""

    id: str
    total: float


class Input(msgspec.Struct):
    """The input of the workflow."""

    file: str


@node("po.parse")
def parse(file: str) -> Order:
    """Parse a file."""
    return Order(file.removesuffix(".csv"), 20_000)


@build.workflow("purchase-order", input=Input, timeout="2d")
def purchase_order(order: Any) -> Any:
    """Parse, approve and ship."""
    parsed = parse(file=order.file, retry=build.Retry(max_attempts=3))  # type: ignore[call-arg]
    total: Any = parsed.total
    decision = build.approval("approve", when=total > 10_000, timeout="24h")
    shipped = build.http.post(
        "https://example.com", json=parsed, id="ship", needs=[decision], join="all_done"
    )
    with build.on_failure(then="completed"):
        build.log(f"failed: {shipped.error_}", id="tell")
    with build.finally_group():
        first = build.transform({"status": shipped.status_}, id="first")
        build.log(first, id="last", level="warning")
    return {"order": parsed.id, "status": shipped.status}


EXPECTED = {
    "id": "purchase-order",
    "timeout": "2d",
    "input": {
        "title": "Input",
        "description": "The input of the workflow.",
        "type": "object",
        "properties": {"file": {"type": "string"}},
        "required": ["file"],
    },
    "nodes": {
        "parse": {
            "type": "po.parse",
            "with": {"file": "${input.file}"},
            "retry": {"max_attempts": 3},
        },
        "approve": {
            "type": "await",
            "with": {"reason": "approval"},
            "needs": ["parse"],
            "when": "nodes.parse.output.total > 10000",
            "timeout": "24h",
        },
        "ship": {
            "type": "http",
            "with": {
                "method": "POST",
                "url": "https://example.com",
                "json": "${nodes.parse.output}",
            },
            "needs": ["approve", "parse"],
            "join": "all_done",
        },
    },
    "on_failure": {
        "nodes": {"tell": {"type": "log", "with": {"message": "failed: ${nodes.ship.error}"}}},
        "then": "completed",
    },
    "finally": {
        "nodes": {
            "first": {"type": "transform", "with": {"value": {"status": "${nodes.ship.status}"}}},
            "last": {
                "type": "log",
                "with": {"message": "${nodes.first.output}", "level": "warning"},
                "needs": ["first"],
            },
        }
    },
    "output": {"order": "${nodes.parse.output.id}", "status": "${nodes.ship.output.status}"},
}


def test_a_function_compiles_to_a_definition():
    """With needs from its expressions, groups, an input schema and an output."""
    assert purchase_order.definition() == EXPECTED


def test_a_workflow_runs_in_a_test():
    """The node function itself is unchanged."""
    assert parse("a.csv").total == 20_000
    result = testing.run(
        purchase_order,
        {"file": "big.csv"},
        nodes={"po.parse": parse, "http": {"status": 200}},
        script=[testing.after("23h", testing.approve("approve", by="ada"))],
    )
    assert (result.status, result.output) == ("completed", {"order": "big", "status": 200})
    assert result.steps["approve"].output["actor"] == "ada"


INPUT = build.Expression("input")


@pytest.mark.parametrize(
    ("expression", "source"),
    [
        (INPUT.a + 1 == 2, "input.a + 1 == 2"),
        ((INPUT.a + 1) * 2, "(input.a + 1) * 2"),
        (INPUT.a - (INPUT.b - 1), "input.a - (input.b - 1)"),
        (INPUT.a - INPUT.b - 1, "input.a - input.b - 1"),
        (1 + INPUT.a, "1 + input.a"),
        ((INPUT.a > 1) & ~(INPUT.b | INPUT.c), "input.a > 1 && !(input.b || input.c)"),
        ((INPUT.a == 1) == INPUT.b, "(input.a == 1) == input.b"),
        (INPUT["a b"][0].size() > 1, 'size(input["a b"][0]) > 1'),
        (INPUT["in"].x, 'input["in"].x'),
        (INPUT.a.is_in(["x", None, True]), 'input.a in ["x", null, true]'),
        (
            build.cel("{}.all(x, x > {})", INPUT.xs, INPUT.a + 1),
            "input.xs.all(x, x > (input.a + 1))",
        ),
        (INPUT.a / {"x": 1.5}["x"], "input.a / 1.5"),
    ],
)
def test_operations_make_longer_expressions(expression: Any, source: str):
    """With brackets only where CEL needs them."""
    assert expression.source_.cel == source


OUTPUT = Step("a")
NAMES = st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True).filter(str.isidentifier)
OFTEN = ["cel", "steps", "binding", "node", "id", "status", "error", "text", "size", "is_in"]
MANGLED = [f"{name}_" for name in OFTEN] + [f"_{name}" for name in OFTEN]
KNOWN = st.sampled_from([*OFTEN, *MANGLED, *keyword.kwlist, *dir(Step)])
NOT_FIELDS = {"size", "is_in", "source_", "status_", "error_"}


@given(KNOWN | NAMES)
def test_every_identifier_is_a_field(name: str):
    """By index always; as an attribute unless it is an operation or the language's own."""
    context = {"input": {name: 7}, "nodes": {"a": {"output": {name: 7}}}}
    is_dunder = name.startswith("__") and name.endswith("__")
    for value in (INPUT, OUTPUT):
        indexed = template_of(value[name])
        assert compile_template(indexed).render(context) == 7
        if name not in NOT_FIELDS and not is_dunder:
            assert template_of(getattr(value, name)) == indexed


@pytest.mark.parametrize("name", ["size", "is_in"])
def test_an_operation_that_is_not_called_is_refused(name: str):
    """A comparison of a method would be False, and not an error."""
    operation = getattr(INPUT.items, name)
    for use in (
        lambda: operation == 3,
        lambda: operation > 3,
        lambda: operation.total,
        lambda: INPUT.a == operation,
        lambda: template_of({"a": [operation]}),
        lambda: f"{operation}",
    ):
        with pytest.raises(TypeError, match=rf'{name} of input.items is .* call it, or .*"{name}"'):
            use()
    assert repr(operation) == f"<{name} of <Expression input.items>>"


@pytest.mark.parametrize(
    "value",
    [
        *({1}, b"x", object(), len, INPUT.source_, Order("a", 1), float("nan"), float("inf")),
        *(Decimal(1), dt.timedelta(1), {1: "a"}, {INPUT.a: 1}, [{"a": {2}}]),
    ],
)
def test_what_is_no_json_is_refused(value: Any):
    """As a parameter, in an expression, and as an option."""
    with pytest.raises(TypeError, match=r"is no JSON|is no key"):
        template_of(value)

    @build.workflow("w")
    def with_option() -> None:
        build.log("x", timeout=value)

    with pytest.raises(TypeError, match=r"is no JSON|is no key"):
        with_option.definition()


def test_a_template_inside_an_expression_is_refused():
    """It would be compared as it is written."""
    with pytest.raises(TypeError, match=r"literal text here: join texts with \+"):
        INPUT.a == f"x-{INPUT.b}"  # noqa: B015 - it raises
    assert (INPUT.a == "x-" + INPUT.b).source_.cel == 'input.a == "x-" + input.b'


def test_an_expression_has_no_value_yet():
    """The error says what to do."""
    with pytest.raises(TypeError, match="pass it as `when`"):
        bool(INPUT.a > 1)
    with pytest.raises(TypeError, match="use map_each"):
        list(INPUT.items)
    with pytest.raises(TypeError, match="cannot be formatted"):
        f"{INPUT.a:>3}"


def test_mistakes_are_found_when_the_definition_is_made():
    """A misspelt parameter or option, an id that is taken, and a step outside of a workflow."""

    @build.workflow("w")
    def misspelt() -> None:
        parse(fiel="x")  # type: ignore[call-arg]

    @build.workflow("w")
    def twice() -> None:
        build.log("x", id="a")
        build.log("y", id="a")

    @build.workflow("w")
    def unknown() -> None:
        build.log("x", retries=3)

    with pytest.raises(TypeError, match=r"po\.parse takes no 'fiel', did you mean 'file'"):
        misspelt.definition()
    with pytest.raises(ValueError, match="two steps have the id 'a'"):
        twice.definition()
    with pytest.raises(TypeError, match="takes no 'retries', did you mean 'retry'"):
        unknown.definition()
    with pytest.raises(RuntimeError, match="inside a function with @workflow"):
        build.log("x")


def test_groups_and_output_are_written_as_python(tmp_path: Path):
    """A definition with everything comes back equal."""
    file = tmp_path / "again.py"
    file.write_text(python_of(EXPECTED))
    assert load_workflows(file) == [EXPECTED]


def test_the_command_exports_both_ways(tmp_path: Path):
    """YAML of a Python file, and Python of that."""
    file = tmp_path / "flows.py"
    file.write_text(python_of(EXPECTED))
    written = CliRunner().invoke(cli, ["export", str(file)])
    assert yaml.safe_load(written.stdout) == EXPECTED
    (tmp_path / "w.yaml").write_text(written.stdout)
    back = CliRunner().invoke(cli, ["export", "--python", str(tmp_path / "w.yaml")])
    assert back.stdout == python_of(EXPECTED)


def test_a_python_file_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As for other files."""
    monkeypatch.setattr("sys.path", [*sys.path])
    file = tmp_path / "broken.py"
    file.write_text("1 / 0")
    with pytest.raises(DefinitionFileError, match=r"broken.py: ZeroDivisionError"):
        read_definitions([file])
    file.write_text("raise ValueError('two\\nlines')")
    with pytest.raises(DefinitionFileError, match=r"broken.py: ValueError: two lines$"):
        read_definitions([file])
    file.write_text("import sys\nsys.path.clear()\nsys.exit(3)")
    with pytest.raises(DefinitionFileError, match=r"broken.py: calls sys.exit\(3\)") as caught:
        read_definitions([file])
    assert caught.value.exit_code == 2
    with pytest.raises(DefinitionFileError, match=r"none.py: No such file"):
        read_definitions([tmp_path / "none.py"])
    file.write_text("x = 1")
    with pytest.raises(DefinitionFileError, match="no function with @workflow"):
        read_definitions([file])
