"""Expressions in definitions: CEL, bare or inside ``${…}`` (https://cel.dev).

An expression is compiled once and evaluated often. The evaluator copies the context that it is
given, so an expression states which names, and which nodes, it refers to, and gets no others: a
run of thousands of nodes would otherwise be quadratic. A plain path such as
``nodes.parse.output.total`` needs no evaluator at all and is walked here, which also keeps JSON
values exactly as they are.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import cel
import cel.stdlib
import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.workflow.expressions.evaluation_cost import MACROS, Loops, check_cost

MAX_LENGTH: Final = 4096
# Each level multiplies the work; evaluation_cost bounds what is left.
MAX_MACRO_DEPTH: Final = 2

# `contains` would shadow CEL's own; `lists.range` makes a list of any length from a number;
# `first` and `last` give optional values, which JSON has no form for.
_EXTENSIONS: Final[Mapping[str, Callable[..., Any]]] = {
    name: function
    for name, function in cel.stdlib.STDLIB_FUNCTIONS.items()
    if name not in {"contains", "lists.range", "first", "last"}
}
_FUNCTIONS: Final = frozenset(
    [
        *("size", "contains", "startsWith", "endsWith", "matches", "type", "dyn"),
        *("int", "uint", "double", "string", "bytes", "timestamp", "duration"),
        *("getFullYear", "getMonth", "getDayOfYear", "getDayOfMonth", "getDate", "getDayOfWeek"),
        *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
        # Of `math.abs` the parser names only what comes after the dot.
        *(name.rpartition(".")[2] for name in _EXTENSIONS),
    ]
)
# Words that are no references: literals, an operator, and the types that `type(x)` gives.
_RESERVED: Final = frozenset(
    [
        *("true", "false", "null", "in"),
        *("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"),
    ]
)
# What begins a string and does not end it takes the rest of the text: to look for strings in
# that rest again and again would take time that grows with the square of its length.
_TOKEN = re.compile(
    r"""(?P<string>[bB]?[rR][bB]?(?:'''.*?'''|\"\"\".*?\"\"\"|'[^'\n]*'|"[^"\n]*")
        |[bB]?(?:'''(?:\\.|[^\\])*?'''|\"\"\"(?:\\.|[^\\])*?\"\"\"
        |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"))
      |(?P<unclosed>['"].*)
      |(?P<comment>//[^\n]*)
      |(?P<number>\d[\w.]*)
      |(?P<name>[A-Za-z_]\w*)
      |(?P<space>\s+)
      |(?P<mark>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_STRING = re.compile(r"""('|")([^'"\\]*)\1""")
_PATH = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*")
_SECRET = re.compile(
    r"""\s*secrets\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*('|")([A-Za-z0-9_-]+)\2\s*\])\s*""", re.ASCII
)
_ERROR_PLACE = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


class InvalidExpressionError(ExpressionError):
    """The text is not an expression that Tailrace accepts.

    Attributes:
        column: where, counted from 1 in the text of the expression.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"{message} (column {column})")
        self.column = column


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        source: its text.
        names: the top-level names that it refers to.
        nodes: the ids of the nodes that it refers to; None if it refers to ``nodes`` as a whole.
        secret: the name of the secret that it is; None if it is anything else, be it computed
            with a secret.
    """

    source: str
    names: frozenset[str]
    nodes: frozenset[str] | None
    secret: str | None
    _evaluate: Callable[[Mapping[str, Any]], Any] = field(repr=False)

    def evaluate(self, context: Mapping[str, Any]) -> Any:
        """Return the expression's value, as JSON types.

        Raises:
            ExpressionError: the values at hand do not fit the expression.
        """
        try:
            return self._evaluate(context)
        except ExpressionError:
            raise
        except KeyError as error:
            raise ExpressionError(f"{self.source}: no such field: {error.args[0]}") from None
        except (ValueError, TypeError, RuntimeError, ArithmeticError, IndexError) as error:
            raise ExpressionError(f"{self.source}: {error}") from None


def compile_expression(source: str) -> Expression:
    """Compile one CEL expression.

    Raises:
        InvalidExpressionError: the text is no expression, or one that is too costly.
    """
    if len(source) > MAX_LENGTH:
        raise InvalidExpressionError(f"longer than {MAX_LENGTH} characters", MAX_LENGTH + 1)
    try:
        program = cel.compile(source)
    except ValueError as error:
        raise _located(source, str(error)) from None
    _check_functions(source, program)
    names, nodes, loops = _references(source)
    path = _PATH.fullmatch(source)
    evaluate = _walker(path[1]) if path and names else _evaluator(program, loops)
    secret = _SECRET.fullmatch(source)
    return Expression(source, names, nodes, secret and (secret[1] or secret[3]), evaluate)


def _check_functions(source: str, program: cel.Program) -> None:
    for name in program.functions():
        if name.isidentifier() and name not in _FUNCTIONS:
            called = re.search(rf"\b{name}\s*\(", source)
            nearest = difflib.get_close_matches(name, sorted(_FUNCTIONS), n=1)
            hint = f", did you mean {nearest[0]}?" if nearest else ""
            raise InvalidExpressionError(
                f"there is no function {name!r}{hint}", called.start() + 1 if called else 1
            )


def _evaluator(program: cel.Program, loops: Loops) -> Callable[[Mapping[str, Any]], Any]:
    called = set(program.functions())
    # Of `math.abs` the program names only what comes after the dot.
    functions = {
        name: function
        for name, function in _EXTENSIONS.items()
        if name.rpartition(".")[2] in called
    }

    def evaluate(context: Mapping[str, Any]) -> Any:
        check_cost(program.source, loops, functions, context)
        variables = dict(context)
        value = program.execute(cel.Context(variables, functions) if functions else variables)
        # Timestamps, durations and bytes become what JSON has for them.
        builtin = msgspec.to_builtins(value, str_keys=True)
        # JSON has no words for NaN and infinity either, and they would come back as null.
        json.dumps(builtin, allow_nan=False, check_circular=False)
        return builtin

    return evaluate


def _walker(path: str) -> Callable[[Mapping[str, Any]], Any]:
    steps = path.split(".")

    def walk(context: Mapping[str, Any]) -> Any:
        value: Any = context
        for step in steps:
            if not isinstance(value, Mapping):
                raise ExpressionError(f"{path}: {step!r} is asked of {_kind(value)}, not an object")
            value = value[step]
        return value

    return walk


def _kind(value: Any) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _located(source: str, message: str) -> InvalidExpressionError:
    if "Recursion limit" in message:
        return InvalidExpressionError("nested too deep", 1)
    place = _ERROR_PLACE.search(message)
    if place is None:
        return InvalidExpressionError("not a CEL expression", 1)
    # The parser goes on to list every token that it would have liked better.
    line, column, reason = int(place[1]), int(place[2]), place[3].partition(" expecting ")[0]
    preceding_lines = source.split("\n")[: line - 1]
    offset = sum(len(text) + 1 for text in preceding_lines)
    return InvalidExpressionError(reason, offset + column)


def _references(source: str) -> tuple[frozenset[str], frozenset[str] | None, Loops]:
    """Return the free names of an expression, the nodes it names (None: all), and its loops.

    Raises:
        InvalidExpressionError: its loops are nested too deep.
    """
    tokens = [m for m in _TOKEN.finditer(source) if m.lastgroup not in {"space", "comment"}]
    texts = [token[0] for token in tokens] + [""] * 4
    kinds = [token.lastgroup for token in tokens] + [""] * 4
    names: set[str] = set()
    nodes: set[str] | None = set()
    power, bodies = 0, set[tuple[int, tuple[str, ...]]]()
    # For each open parenthesis the name that it binds, and the power of its loop: 0 for none.
    open_: list[tuple[str, int]] = []
    for index, token in enumerate(tokens):
        text = token[0]
        if text == "(":
            loop = MACROS.get(texts[index - 1], 0) if texts[index - 2] == "." else 0
            open_.append((texts[index + 1] if loop else "", loop))
            power = max(power, loop)
            if sum(bool(each) for _name, each in open_) > MAX_MACRO_DEPTH:
                raise InvalidExpressionError(
                    f"loops nested more than {MAX_MACRO_DEPTH} deep", token.start() + 1
                )
        elif text == ")" and open_:
            open_.pop()
        is_free = kinds[index] == "name" and texts[index - 1] != "." and texts[index + 1] != "("
        if not is_free or text in _RESERVED or any(text == bound for bound, _loop in open_):
            continue
        names.add(text)
        if depth := sum(bool(loop) for _name, loop in open_):
            bodies.add((depth, _path_at(texts, kinds, index)))
        if text == "nodes" and nodes is not None:
            node = _node_named_after(texts, kinds, index)
            nodes = None if node is None else nodes | {node}
    return (
        frozenset(names - _NAMESPACES),
        None if nodes is None else frozenset(nodes),
        Loops(power, frozenset(bodies)),
    )


def _path_at(texts: list[str], kinds: list[str | None], index: int) -> tuple[str, ...]:
    path = [texts[index]]
    while texts[index + 1] == "." and kinds[index + 2] == "name":
        index += 2
        path.append(texts[index])
    return tuple(path)


_NAMESPACES: Final = {name.partition(".")[0] for name in _EXTENSIONS if "." in name}


def _node_named_after(texts: list[str], kinds: list[str | None], index: int) -> str | None:
    if texts[index + 1] == "." and kinds[index + 2] == "name" and texts[index + 3] != "(":
        return texts[index + 2]
    if texts[index + 1] == "[" and texts[index + 3] == "]":
        # Any other way to write a string, with a prefix or escapes, may mean any node.
        plain = _PLAIN_STRING.fullmatch(texts[index + 2])
        return plain and plain[2]
    return None


@dataclass(frozen=True, slots=True)
class Template:
    """JSON with expressions inside its strings, compiled.

    Attributes:
        value: what it renders to where it has no expressions; otherwise as it is written.
        expressions: every expression in it, each with the path of keys and indexes to its string.
    """

    value: Any
    expressions: tuple[tuple[tuple[str | int, ...], Expression], ...]
    _render: Callable[[Mapping[str, Any]], Any] = field(repr=False)

    def render(self, context: Mapping[str, Any]) -> Any:
        """Return the JSON with every expression replaced by its value.

        A string that is one ``${…}`` becomes the value with its type; in a longer string a value
        is written as text (JSON, unless it is a string itself).

        Raises:
            ExpressionError: an expression does not fit the values at hand.
        """
        return self._render(context)


class InvalidTemplateError(ExpressionError):
    """Expressions inside a template are not acceptable.

    Attributes:
        errors: each with the keys and indexes that lead to its string.
    """

    def __init__(self, errors: "_Errors") -> None:
        super().__init__("; ".join(str(error) for _path, error in errors))
        self.errors = errors


def compile_template(value: Any) -> Template:
    """Compile the expressions in ``value``, any JSON.

    Raises:
        InvalidTemplateError: naming every expression that is not acceptable.
    """
    compiler = _TemplateCompiler()
    render = compiler.value(value, ())
    if compiler.errors:
        raise InvalidTemplateError(compiler.errors)
    if not compiler.found:
        constant = render({})  # not `value`: an escaped `${` may be in it
        return Template(constant, (), lambda _context: constant)
    return Template(value, tuple(compiler.found), render)


_Path = tuple[str | int, ...]
_Errors = list[tuple[_Path, InvalidExpressionError]]
_Render = Callable[[Mapping[str, Any]], Any]


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
                return lambda context: {key: render(context) for key, render in members.items()}
            case list():
                items = [self.value(item, (*path, index)) for index, item in enumerate(value)]
                return lambda context: [render(context) for render in items]
            case _:
                return lambda _context: value

    def text(self, text: str, path: _Path) -> _Render:
        parts: list[str | Expression] = []
        try:
            for part in _split(text):
                if isinstance(part, str):
                    parts.append(part)
                else:
                    expression = compile_expression(text[part.start : part.stop])
                    self.found.append((path, expression))
                    parts.append(expression)
        except InvalidExpressionError as error:
            self.errors.append((path, error))
        if len(parts) == 1 and isinstance(parts[0], Expression):
            return parts[0].evaluate
        return lambda context: "".join(
            part if isinstance(part, str) else _as_text(part.evaluate(context)) for part in parts
        )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _split(text: str) -> Iterator[str | slice]:
    """Yield the literal parts of a template string, and a slice for each expression in it."""
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
    for token in _TOKEN.finditer(text, start, start + MAX_LENGTH + 1):
        if token[0] == "{":
            depth += 1
        elif token[0] == "}":
            if depth == 0:
                return token.start()
            depth -= 1
    raise InvalidExpressionError("'${' without its '}'", start - 1)
