"""Compile and evaluate CEL expressions (https://cel.dev).

An expression is compiled once and evaluated often. The evaluator copies its context, so an
expression states which names and nodes it uses, and receives no others. Otherwise a run of
thousands of nodes would take quadratic time. A plain path such as ``nodes.parse.output.total`` is
resolved without the evaluator, which also returns JSON values unchanged. It costs nothing.
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
from tailrace_shared.workflow.expressions.budget import Budget, TooExpensiveError
from tailrace_shared.workflow.expressions.free_names import find_free_names
from tailrace_shared.workflow.expressions.functions import EXTENSIONS, REPLACED
from tailrace_shared.workflow.expressions.loops import PATH, check_loops
from tailrace_shared.workflow.expressions.program import FAILURES, Part, Path, compile_part

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
# A path with one of these is not valid, or not a path.
_KEYWORDS: Final = frozenset(
    [
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for"),
        *("function", "if", "import", "let", "loop", "package", "namespace", "return", "var"),
        *("void", "while"),
    ]
)
_NAMESPACES: Final = {name.partition(".")[0] for name in EXTENSIONS if "." in name}
_ORIGINAL: Final = {new: name for name, (new, _function) in REPLACED.items()}
_SECRET = re.compile(
    r"""\s*secrets\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*('|")([A-Za-z0-9_-]+)\2\s*\])\s*""", re.ASCII
)
_NO_OVERLOAD = re.compile(r"Undefined variable or function: '(\w+)'")
_FAILED_FUNCTION = re.compile(
    r"Function '([\w.]+)' error: (?:Python function call failed: \w+: )?(.*?)\.?"
    r"( Check function arguments and their types\.)?",
    re.DOTALL,
)
_SHOWN: Final = 200
# Values that are JSON as they are; others are converted and checked.
_PLAIN: Final = frozenset({bool, int, str, type(None)})
_RESULT_COPIES: Final = 2
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
    _evaluate: Callable[[Mapping[str, Any], Budget], Any] = field(repr=False)

    def evaluate(self, context: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Return the value of the expression as JSON types.

        Args:
            budget: what the evaluation may cost; None for one of the default size.

        Raises:
            TooExpensiveError: the evaluation would cost too much.
            ExpressionError: the evaluation failed.
        """
        try:
            return self._evaluate(context, budget or Budget())
        except TooExpensiveError as error:
            raise TooExpensiveError(f"{self.source[:_SHOWN]}: {error}") from None
        except ExpressionError:
            raise
        except KeyError as error:
            raise ExpressionError(f"{self.source}: no such field: {error.args[0]}") from None
        except FAILURES as error:
            raise ExpressionError(f"{self.source}: {_reason(str(error))}") from None


def compile_expression(source: str) -> Expression:
    """Compile one CEL expression.

    Raises:
        InvalidExpressionError: the text is not valid CEL, or could be too expensive.
    """
    if len(source) > MAX_LENGTH:
        raise InvalidExpressionError(f"longer than {MAX_LENGTH} characters", MAX_LENGTH + 1)
    found = find_free_names(source)
    names = found.names - _NAMESPACES
    path = PATH.fullmatch(source)
    if path and names and _KEYWORDS.isdisjoint(path[1].split(".")):
        part: Part = Path(tuple(path[1].split(".")))
    else:
        part = _compile(source)
    secret = _SECRET.fullmatch(source)
    return Expression(
        source,
        names,
        found.nodes,
        secret and (secret[1] or secret[3]),
        frozenset(found.references),
        found.statuses,
        _reference(part) if isinstance(part, Path) else _evaluator(part),
    )


def _compile(source: str) -> Part:
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise _located(source, str(error)) from None
    _check_functions(source, program)
    check_loops(source)
    return compile_part(source, program)


def _check_functions(source: str, program: cel.Program) -> None:
    for name in program.functions():
        if name.isidentifier() and name not in _FUNCTIONS:
            called = re.search(rf"\b{name}\s*\(", source)
            nearest = difflib.get_close_matches(name, sorted(_FUNCTIONS), n=1)
            hint = f", did you mean {nearest[0]}?" if nearest else ""
            raise InvalidExpressionError(
                f"there is no function {name!r}{hint}", called.start() + 1 if called else 1
            )


def _reference(path: Path) -> Callable[[Mapping[str, Any], Budget], Any]:
    def evaluate(context: Mapping[str, Any], budget: Budget) -> Any:
        value = path.evaluate(context, budget)
        if isinstance(value, str | list | dict):
            budget.refer(value)
        return value

    return evaluate


def _evaluator(part: Part) -> Callable[[Mapping[str, Any], Budget], Any]:
    def evaluate(context: Mapping[str, Any], budget: Budget) -> Any:
        value = part.evaluate(context, budget)
        if type(value) in _PLAIN:
            return value
        budget.spend(budget.cost_of_copies(value, _RESULT_COPIES))
        # Convert timestamps, durations and bytes to JSON types.
        builtin = msgspec.to_builtins(value, str_keys=True)
        # JSON cannot represent NaN and infinity; they would become null.
        json.dumps(builtin, allow_nan=False, check_circular=False)
        return builtin

    return evaluate


def _reason(message: str) -> str:
    missing = _NO_OVERLOAD.match(message)
    if missing and missing[1] in _FUNCTIONS:
        return f"{missing[1]}() does not take values of these types"
    failed = _FAILED_FUNCTION.fullmatch(message)
    if failed:
        return f"{_ORIGINAL.get(failed[1], failed[1])}(): {failed[2]}"
    return message


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
