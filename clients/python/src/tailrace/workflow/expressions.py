"""Expressions of a workflow function: each operation on one makes a longer CEL expression."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NoReturn

import msgspec

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS: Final = frozenset(
    [
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import"),
        *("in", "let", "loop", "null", "package", "namespace", "return", "true", "var", "void"),
        *("while",),
    ]
)
# Binding of operators, from loose to tight.
_CONDITIONAL: Final = 0
_OR: Final = 1
_AND: Final = 2
_COMPARISON: Final = 3
_SUM: Final = 4
_PRODUCT: Final = 5
_UNARY: Final = 6
_MEMBER: Final = 7


@dataclass(frozen=True, slots=True)
class Source:
    """The source of an expression.

    Attributes:
        cel: CEL.
        steps: ids of the steps whose outcome it names.
        binding: how tightly its outermost operator binds.
    """

    cel: str
    steps: frozenset[str] = frozenset()
    binding: int = _MEMBER

    def text(self, binding: int) -> str:
        """Return the CEL, in brackets if it binds less tightly."""
        return self.cel if self.binding >= binding else f"({self.cel})"


class Expression:
    """A CEL expression over the input, outputs of steps, and facts of the run.

    An attribute is a field of its value. So that no field is shadowed, this class has no other
    attributes than dunder methods, the operations ``size`` and ``is_in``, and ``source_``.

    Attributes:
        source_: its source.
    """

    __slots__ = ("source_",)

    def __init__(
        self, cel: str, steps: frozenset[str] = frozenset(), binding: int = _MEMBER
    ) -> None:
        self.source_ = Source(cel, steps, binding)

    def __repr__(self) -> str:
        return f"<Expression {self.source_.cel}>"

    def __str__(self) -> str:
        return f"${{{self.source_.cel}}}"

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError("an expression has no value yet, and cannot be formatted")
        return str(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"the value of {self.source_.cel} is known only when the workflow runs: pass it as "
            "`when`, and write & for and, | for or, ~ for not"
        )

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self.source_.cel} cannot be iterated over: use map_each")

    def __hash__(self) -> int:
        return hash(self.source_.cel)

    def __getattr__(self, name: str) -> "Expression":
        # Python asks objects for such names, for example to copy them.
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"for a field write [{name!r}]")
        return _member(self, name)

    def __getitem__(self, key: Any) -> "Expression":
        if isinstance(key, str):
            return _member(self, key)
        text = f"{self.source_.text(_MEMBER)}[{source_of(key)}]"
        return Expression(text, self.source_.steps | steps_in(key))

    # Comparisons

    def __eq__(self, other: object) -> "Expression":  # type: ignore[override]
        return _binary(self, "==", other, _COMPARISON)

    def __ne__(self, other: object) -> "Expression":  # type: ignore[override]
        return _binary(self, "!=", other, _COMPARISON)

    def __lt__(self, other: Any) -> "Expression":
        return _binary(self, "<", other, _COMPARISON)

    def __le__(self, other: Any) -> "Expression":
        return _binary(self, "<=", other, _COMPARISON)

    def __gt__(self, other: Any) -> "Expression":
        return _binary(self, ">", other, _COMPARISON)

    def __ge__(self, other: Any) -> "Expression":
        return _binary(self, ">=", other, _COMPARISON)

    # Logic

    def __and__(self, other: Any) -> "Expression":
        return _binary(self, "&&", other, _AND)

    def __or__(self, other: Any) -> "Expression":
        return _binary(self, "||", other, _OR)

    def __invert__(self) -> "Expression":
        return Expression(f"!{self.source_.text(_UNARY)}", self.source_.steps, _UNARY)

    # Arithmetic

    def __add__(self, other: Any) -> "Expression":
        return _binary(self, "+", other, _SUM)

    def __radd__(self, other: Any) -> "Expression":
        return _binary(constant(other), "+", self, _SUM)

    def __sub__(self, other: Any) -> "Expression":
        return _binary(self, "-", other, _SUM)

    def __mul__(self, other: Any) -> "Expression":
        return _binary(self, "*", other, _PRODUCT)

    def __truediv__(self, other: Any) -> "Expression":
        return _binary(self, "/", other, _PRODUCT)

    # Operations

    @property
    def size(self) -> "Callable[[], Expression]":
        """``size()`` is the number of elements, entries or characters."""
        return _Operation(
            self, "size", lambda: Expression(f"size({self.source_.cel})", self.source_.steps)
        )

    @property
    def is_in(self) -> "Callable[[Any], Expression]":
        """``is_in(values)`` is whether the value is in a list, or is a key of an object."""
        return _Operation(self, "is_in", lambda values: _binary(self, "in", values, _COMPARISON))


class _Operation(Expression):
    """An operation that is called. A definition cannot have it as a value."""

    __slots__ = ("_call", "_name", "_of")

    def __init__(self, of: Expression, name: str, call: Callable[..., Expression]) -> None:
        self._of = of
        self._name = name
        self._call = call

    def __repr__(self) -> str:
        return f"<{self._name} of {self._of!r}>"

    def __call__(self, *values: Any) -> Expression:
        return self._call(*values)

    @property
    def source_(self) -> Source:  # type: ignore[override]
        """Refuse to be used as a value.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{self._name} of {self._of.source_.cel} is an operation: call it, or write "
            f'["{self._name}"] for the field'
        )


def _member(of: Expression, name: str) -> Expression:
    is_plain = _NAME.fullmatch(name) and name not in _WORDS
    member = f".{name}" if is_plain else f"[{source_of(name)}]"
    return Expression(of.source_.text(_MEMBER) + member, of.source_.steps)


def _binary(of: Expression, operator: str, other: Any, binding: int) -> Expression:
    left = of.source_
    right = (other if isinstance(other, Expression) else constant(other)).source_
    # Of equal binding only the left side needs no brackets; comparisons do not chain.
    left_binding = binding + 1 if binding == _COMPARISON else binding
    text = f"{left.text(left_binding)} {operator} {right.text(binding + 1)}"
    return Expression(text, left.steps | right.steps, binding)


def cel(source: str, *names: Any) -> Expression:
    """Return an expression from its source, for what Python cannot express.

    Args:
        source: CEL, in which ``{}`` stands for the next of ``names``.
        names: expressions, or values.
    """
    parts = source.split("{}")
    if len(parts) != len(names) + 1:
        raise ValueError(f"{source!r} has {len(parts) - 1} places for {len(names)} values")
    texts = [f"({source_of(name)})" if _is_compound(name) else source_of(name) for name in names]
    text = "".join(part + value for part, value in zip(parts, [*texts, ""], strict=True))
    return Expression(text, frozenset().union(*map(steps_in, names)), _CONDITIONAL)


def _is_compound(value: Any) -> bool:
    return isinstance(value, Expression) and value.source_.binding < _MEMBER


def constant(value: Any) -> Expression:
    """Return a value as an expression."""
    return Expression(source_of(value), steps_in(value))


def source_of(value: Any) -> str:
    """Return the CEL source of an expression or of a JSON value.

    Raises:
        TypeError: it is neither, or text that an f-string has made of expressions.
    """
    if isinstance(value, Expression):
        return value.source_.cel
    if isinstance(value, Mapping):
        entries = (f"{source_of(key)}: {source_of(each)}" for key, each in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(source_of, value)) + "]"
    if isinstance(value, str) and _TEMPLATE.search(value):
        raise TypeError(f"{value!r} would be literal text here: join texts with + instead")
    return msgspec.json.encode(_scalar(value)).decode()


def steps_in(value: Any) -> frozenset[str]:
    """Return the ids of the steps that a value names, at any depth."""
    if isinstance(value, Expression):
        return value.source_.steps
    if isinstance(value, Mapping):
        return frozenset().union(*map(steps_in, value.values()))
    if isinstance(value, list | tuple):
        return frozenset().union(*map(steps_in, value))
    if isinstance(value, str):
        return frozenset(_named_in(value))
    return frozenset()


_TEMPLATE: Final = re.compile(r"(?<!\$)\$\{([^}]*)\}")
_NODE: Final = re.compile(r"nodes(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[\"([A-Za-z0-9_-]+)\"\])")


def _named_in(text: str) -> Iterator[str]:
    # An f-string has turned its expressions into text.
    for template in _TEMPLATE.finditer(text):
        for plain, quoted in _NODE.findall(template[1]):
            yield plain or quoted


def template_of(value: Any) -> Any:
    """Return a value of ``with``, in which expressions are templates.

    Raises:
        TypeError: it is no JSON.
    """
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, Mapping):
        return {key_of(key): template_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [template_of(each) for each in value]
    return _scalar(value)


def key_of(key: Any) -> str:
    """Return a key of a JSON object.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(key, str):
        raise TypeError(f"{key!r} is no key of a JSON object: keys are text")
    return key


def _scalar(value: Any) -> Any:
    if isinstance(value, Enum):
        return _scalar(value.value)
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not isinstance(value, str | int | float | None) or not is_finite:
        raise TypeError(f"{value!r} is no JSON, and a definition is JSON")
    return value
