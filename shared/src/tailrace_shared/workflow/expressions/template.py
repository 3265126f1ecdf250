"""Evaluate JSON values with CEL expressions inside their strings, as ``${…}``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tailrace_shared.errors import ExpressionError, InvalidExpressionError
from tailrace_shared.workflow import pace
from tailrace_shared.workflow.expressions.budget import Budget
from tailrace_shared.workflow.expressions.expression import (
    MAX_LENGTH,
    Expression,
    compile_expression,
)
from tailrace_shared.workflow.expressions.tokens import TOKEN

# It is encoded, joined, and encoded again.
_TEXT_COPIES: Final = 3


@dataclass(frozen=True, slots=True)
class Template:
    """JSON with expressions inside its strings, compiled.

    Attributes:
        value: the rendered value if there are no expressions; otherwise the original value.
        expressions: all expressions, each with the keys and indexes that lead to its string.
    """

    value: Any
    expressions: tuple[tuple[tuple[str | int, ...], Expression], ...]
    _render: "_Render" = field(repr=False)

    def render(self, context: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """Return the JSON with every expression replaced by its value.

        A string that consists of one ``${…}`` becomes the value with its type. In a longer
        string, values are inserted as text; values other than strings are inserted as JSON.

        Args:
            budget: what all its expressions may cost together; None for one of the default size.

        Raises:
            TooExpensiveError: they would cost more.
            ExpressionError: the evaluation of an expression failed.
        """
        return self._render(context, budget or Budget())


class InvalidTemplateError(ExpressionError):
    """A template has invalid expressions.

    Attributes:
        errors: the errors, each with the keys and indexes that lead to its string.
    """

    def __init__(self, errors: "_Errors") -> None:
        super().__init__("; ".join(str(error) for _path, error in errors))
        self.errors = errors


def compile_template(value: Any) -> Template:
    """Compile the expressions in a JSON value.

    Raises:
        InvalidTemplateError: some expressions are invalid.
    """
    compiler = _TemplateCompiler()
    render = compiler.value(value, ())
    if compiler.errors:
        raise InvalidTemplateError(compiler.errors)
    if not compiler.found:
        constant = render({}, Budget())  # not `value`, which may contain an escaped `${`
        return Template(constant, (), lambda _context, _budget: constant)
    return Template(value, tuple(compiler.found), render)


_Path = tuple[str | int, ...]
_Errors = list[tuple[_Path, InvalidExpressionError]]
_Render = Callable[[Mapping[str, Any], Budget], Any]


class _TemplateCompiler:
    def __init__(self) -> None:
        self.found: list[tuple[_Path, Expression]] = []
        self.errors: _Errors = []

    def value(self, value: Any, path: _Path) -> _Render:
        match value:
            case str() if "$" in value:
                return self.text(value, path)
            case dict():
                members = {key: self.value(item, (*path, key)) for key, item in value.items()}
                return lambda context, budget: {
                    key: render(context, budget) for key, render in members.items()
                }
            case list():
                items = [self.value(item, (*path, index)) for index, item in enumerate(value)]
                return lambda context, budget: [render(context, budget) for render in items]
            case _:
                return lambda _context, _budget: value

    def text(self, text: str, path: _Path) -> _Render:
        parts: list[str | Expression] = []
        try:
            for part in _split(text):
                if isinstance(part, str):
                    parts.append(part)
                else:
                    pace.pause()
                    expression = compile_expression(text[part.start : part.stop])
                    self.found.append((path, expression))
                    parts.append(expression)
        except InvalidExpressionError as error:
            self.errors.append((path, error))
        if len(parts) == 1 and isinstance(parts[0], Expression):
            return parts[0].evaluate
        return lambda context, budget: "".join(
            part if isinstance(part, str) else _as_text(part.evaluate(context, budget), budget)
            for part in parts
        )


def _as_text(value: Any, budget: Budget) -> str:
    budget.spend(budget.cost_of_copies(value, _TEXT_COPIES))
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _split(text: str) -> Iterator[str | slice]:
    """Yield the literal parts of a template string, and a slice for each expression."""
    literal, position = "", 0
    while (start := text.find("$", position)) >= 0:
        literal += text[position:start]
        if text.startswith("$${", start):  # an escaped `${`
            literal, position = literal + "${", start + 3
        elif text.startswith("${", start):
            end = _expression_end(text, start + 2)
            if literal:
                yield literal
            yield slice(start + 2, end)
            literal, position = "", end + 1
        else:
            literal, position = literal + "$", start + 1
    literal += text[position:]
    if literal:
        yield literal


def _expression_end(text: str, start: int) -> int:
    depth = 0
    for token in TOKEN.finditer(text, start, start + MAX_LENGTH + 1):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            if depth == 0:
                return token.start()
            depth -= 1
    raise InvalidExpressionError("'${' without a matching '}'", start - 1)
