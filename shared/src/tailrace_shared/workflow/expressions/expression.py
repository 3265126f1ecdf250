"""Compile and evaluate CEL expressions (https://cel.dev).

An expression is compiled once and evaluated often. The evaluator copies its context, so an
expression states which names and nodes it uses, and receives no others. Otherwise a run of
thousands of nodes would take quadratic time. A plain path such as ``nodes.parse.output.total`` is
resolved without the evaluator, which also returns JSON values unchanged.
"""

import difflib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cel
import msgspec

from tailrace_shared.errors import ExpressionError, InvalidExpressionError
from tailrace_shared.workflow.expressions.evaluation_cost import Loops, check_cost
from tailrace_shared.workflow.expressions.free_names import find_free_names, rename_calls
from tailrace_shared.workflow.expressions.functions import EXTENSIONS, OVERLOADS, REPLACED

MAX_LENGTH: Final = 4096

_FUNCTIONS: Final = frozenset(
    [
        *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn"),
        *("int", "uint", "double", "string", "bytes", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
        # The parser reports `math.abs` without its namespace.
        *(name.rpartition(".")[2] for name in EXTENSIONS),
    ]
)
_NAMESPACES: Final = {name.partition(".")[0] for name in EXTENSIONS if "." in name}
_CALLABLE: Final = {**EXTENSIONS, **OVERLOADS, **dict(REPLACED.values())}
_ORIGINAL: Final = {new: name for name, (new, _function) in REPLACED.items()}
_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*")
_SECRET = re.compile(
    r"""\s*secrets\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*('|")([A-Za-z0-9_-]+)\2\s*\])\s*""", re.ASCII
)
_NO_OVERLOAD = re.compile(r"Undefined variable or function: '(\w+)'")
_FAILED_FUNCTION = re.compile(
    r"Function '([\w.]+)' error: (?:Python function call failed: \w+: )?(.*?)\.?"
    r"( Check function arguments and their types\.)?",
    re.DOTALL,
)
_ERROR_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        names: the top-level names that it uses.
        nodes: the ids of the nodes that it uses; None if it uses ``nodes`` as a whole.
        secret: the name of the secret if the expression is only a reference to it.
        paths: its references as far as they are constant, such as ``("input", "rate")``.
        statuses: the strings that it compares with the status of a node.
    """

    source: str
    names: frozenset[str]
    nodes: frozenset[str] | None
    secret: str | None
    paths: frozenset[tuple[str, ...]]
    statuses: frozenset[str]
    _evaluate: Callable[[Mapping[str, Any]], Any] = field(repr=False)

    def evaluate(self, context: Mapping[str, Any]) -> Any:
        """Return the value of the expression as JSON types.

        Raises:
            ExpressionError: the evaluation failed.
        """
        try:
            return self._evaluate(context)
        except ExpressionError:
            raise
        except KeyError as error:
            raise ExpressionError(f"{self.source}: no such field: {error.args[0]}") from None
        except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as error:
            raise ExpressionError(f"{self.source}: {_reason(str(error))}") from None


def compile_expression(source: str) -> Expression:
    """Compile one CEL expression.

    Raises:
        InvalidExpressionError: the text is not valid CEL, or could be too expensive.
    """
    if len(source) > MAX_LENGTH:
        raise InvalidExpressionError(f"longer than {MAX_LENGTH} characters", MAX_LENGTH + 1)
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise _located(source, str(error)) from None
    _check_functions(source, program)
    found = find_free_names(source)
    names = found.names - _NAMESPACES
    path = _PATH.fullmatch(source)
    if path and names:
        evaluate = _walker(path[1])
    else:
        renamed = source
        for name, (new, _function) in REPLACED.items():
            renamed = rename_calls(renamed, name, new)
        program = program if renamed == source else cel.compile(renamed)
        evaluate = _evaluator(source, program, found.loops)
    secret = _SECRET.fullmatch(source)
    return Expression(
        source,
        names,
        found.nodes,
        secret and (secret[1] or secret[3]),
        found.paths,
        found.statuses,
        evaluate,
    )


def _check_functions(source: str, program: cel.Program) -> None:
    for name in program.functions():
        if name.isidentifier() and name not in _FUNCTIONS:
            called = re.search(rf"\b{name}\s*\(", source)
            nearest = difflib.get_close_matches(name, sorted(_FUNCTIONS), n=1)
            hint = f", did you mean {nearest[0]}?" if nearest else ""
            raise InvalidExpressionError(
                f"there is no function {name!r}{hint}", called.start() + 1 if called else 1
            )


def _evaluator(
    source: str, program: cel.Program, loops: Loops
) -> Callable[[Mapping[str, Any]], Any]:
    called = set(program.functions())
    # The program reports `math.abs` without its namespace.
    functions = {
        name: function for name, function in _CALLABLE.items() if name.rpartition(".")[2] in called
    }

    def evaluate(context: Mapping[str, Any]) -> Any:
        check_cost(source, loops, functions, context)
        variables = dict(context)
        value = program.execute(cel.Context(variables, functions) if functions else variables)
        # Convert timestamps, durations and bytes to JSON types.
        builtin = msgspec.to_builtins(value, str_keys=True)
        # JSON cannot represent NaN and infinity; they would become null.
        json.dumps(builtin, allow_nan=False, check_circular=False)
        return builtin

    return evaluate


def _walker(path: str) -> Callable[[Mapping[str, Any]], Any]:
    steps = path.split(".")

    def walk(context: Mapping[str, Any]) -> Any:
        value: Any = context
        for step in steps:
            if not isinstance(value, Mapping):
                raise ExpressionError(
                    f"{path}: cannot read {step!r} of {_kind(value)}; it is not an object"
                )
            value = value[step]
        return value

    return walk


def _reason(message: str) -> str:
    missing = _NO_OVERLOAD.match(message)
    if missing and missing[1] in _FUNCTIONS:
        return f"{missing[1]}() does not take values of these types"
    failed = _FAILED_FUNCTION.fullmatch(message)
    if failed:
        return f"{_ORIGINAL.get(failed[1], failed[1])}(): {failed[2]}"
    return message


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _located(source: str, message: str) -> InvalidExpressionError:
    if "Recursion limit" in message:
        return InvalidExpressionError("nested too deeply", 1)
    place = _ERROR_PLACE.search(message)
    if place is None:
        return InvalidExpressionError("not a CEL expression", 1)
    # Drop the list of all expected tokens.
    line, column, reason = int(place[1]), int(place[2]), place[3].partition(" expecting ")[0]
    preceding_lines = source.split("\n")[: line - 1]
    offset = sum(len(text) + 1 for text in preceding_lines)
    return InvalidExpressionError(reason, offset + column)
