"""Expressions of a workflow function: each operation on one makes a longer CEL expression."""

import re
from collections.abc import Iterator, Mapping
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


class Expression:
    """A CEL expression over the input, outputs of steps, and facts of the run.

    Attributes:
        cel: its source.
        steps: ids of the steps whose outcome it names.
        binding_: how tightly its outermost operator binds.
    """

    def __init__(
        self, cel: str, steps: frozenset[str] = frozenset(), binding: int = _MEMBER
    ) -> None:
        self.cel = cel
        self.steps = steps
        self.binding_ = binding

    def __repr__(self) -> str:
        return f"<Expression {self.cel}>"

    def __str__(self) -> str:
        return f"${{{self.cel}}}"

    def __format__(self, spec: str) -> str:
        if spec:
            raise TypeError("an expression has no value yet, and cannot be formatted")
        return str(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"the value of {self.cel} is known only when the workflow runs: pass it as `when`, and "
            "write & for and, | for or, ~ for not"
        )

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self.cel} cannot be iterated over: use map_each")

    def __hash__(self) -> int:
        return hash(self.cel)

    def __getattr__(self, name: str) -> "Expression":
        if name.startswith("__"):
            raise AttributeError(name)
        return self._member(name)

    def __getitem__(self, key: Any) -> "Expression":
        if isinstance(key, str):
            return self._member(key)
        return self._new(f"{self.text_(_MEMBER)}[{source_of(key)}]", key)

    def _member(self, name: str) -> "Expression":
        is_plain = _NAME.fullmatch(name) and name not in _WORDS
        member = f".{name}" if is_plain else f"[{source_of(name)}]"
        return Expression(self.text_(_MEMBER) + member, self.steps)

    # Comparisons

    def __eq__(self, other: object) -> "Expression":  # type: ignore[override]
        return self._binary("==", other, _COMPARISON)

    def __ne__(self, other: object) -> "Expression":  # type: ignore[override]
        return self._binary("!=", other, _COMPARISON)

    def __lt__(self, other: Any) -> "Expression":
        return self._binary("<", other, _COMPARISON)

    def __le__(self, other: Any) -> "Expression":
        return self._binary("<=", other, _COMPARISON)

    def __gt__(self, other: Any) -> "Expression":
        return self._binary(">", other, _COMPARISON)

    def __ge__(self, other: Any) -> "Expression":
        return self._binary(">=", other, _COMPARISON)

    def is_in(self, others: Any) -> "Expression":
        """Return whether the value is in a list, or is a key of an object."""
        return self._binary("in", others, _COMPARISON)

    # Logic

    def __and__(self, other: Any) -> "Expression":
        return self._binary("&&", other, _AND)

    def __or__(self, other: Any) -> "Expression":
        return self._binary("||", other, _OR)

    def __invert__(self) -> "Expression":
        return Expression(f"!{self.text_(_UNARY)}", self.steps, _UNARY)

    # Arithmetic

    def __add__(self, other: Any) -> "Expression":
        return self._binary("+", other, _SUM)

    def __radd__(self, other: Any) -> "Expression":
        return constant(other)._binary("+", self, _SUM)

    def __sub__(self, other: Any) -> "Expression":
        return self._binary("-", other, _SUM)

    def __mul__(self, other: Any) -> "Expression":
        return self._binary("*", other, _PRODUCT)

    def __truediv__(self, other: Any) -> "Expression":
        return self._binary("/", other, _PRODUCT)

    def size(self) -> "Expression":
        """Return the number of elements, entries or characters."""
        return Expression(f"size({self.cel})", self.steps)

    def _binary(self, operator: str, other: Any, binding: int) -> "Expression":
        right = other if isinstance(other, Expression) else constant(other)
        # Of equal binding only the left side needs no brackets; comparisons do not chain.
        left_binding = binding + 1 if binding == _COMPARISON else binding
        text = f"{self.text_(left_binding)} {operator} {right.text_(binding + 1)}"
        return Expression(text, self.steps | right.steps, binding)

    def text_(self, binding: int) -> str:
        """Return the source, in brackets if it binds less tightly."""
        return self.cel if self.binding_ >= binding else f"({self.cel})"

    def _new(self, text: str, *others: Any) -> "Expression":
        return Expression(text, self.steps.union(*map(steps_in, others)))


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
    return isinstance(value, Expression) and value.binding_ < _MEMBER


def constant(value: Any) -> Expression:
    """Return a value as an expression."""
    return Expression(source_of(value), steps_in(value))


def source_of(value: Any) -> str:
    """Return the CEL source of an expression or of a JSON value."""
    if isinstance(value, Expression):
        return value.cel
    if isinstance(value, Mapping):
        entries = (f"{source_of(key)}: {source_of(each)}" for key, each in value.items())
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(source_of, value)) + "]"
    return msgspec.json.encode(value).decode()


def steps_in(value: Any) -> frozenset[str]:
    """Return the ids of the steps that a value names, at any depth."""
    if isinstance(value, Expression):
        return value.steps
    if isinstance(value, Mapping):
        return frozenset().union(*map(steps_in, value.values()))
    if isinstance(value, list | tuple):
        return frozenset().union(*map(steps_in, value))
    if isinstance(value, str):
        return frozenset(_named_in(value))
    return frozenset()


_NODE: Final = re.compile(r"nodes(?:\.([A-Za-z_][A-Za-z0-9_]*)|\[\"([A-Za-z0-9_-]+)\"\])")


def _named_in(text: str) -> Iterator[str]:
    # An f-string has turned its expressions into text.
    for template in re.finditer(r"(?<!\$)\$\{([^}]*)\}", text):
        for plain, quoted in _NODE.findall(template[1]):
            yield plain or quoted


def template_of(value: Any) -> Any:
    """Return a value of ``with``, in which expressions are templates."""
    if isinstance(value, Expression):
        return str(value)
    if isinstance(value, Mapping):
        return {key: template_of(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [template_of(each) for each in value]
    return value
