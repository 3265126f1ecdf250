"""Split an expression into parts that are evaluated here and a rest for the library.

Loops are evaluated here, and so are the size and the elements of a value that is named by its path,
because the library would copy the whole value first. ``xs.filter(x, x > n)[0] > ys.size()`` becomes
``_h0()[0][0] > _h1()[0]``: each call stands for a part, which may have such parts itself.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tailrace_shared.errors import InvalidExpressionError
from tailrace_shared.workflow.expressions.tokens import Token, tokens_of

MACROS: Final = frozenset({"all", "exists", "exists_one", "filter", "map"})
"""The loops of CEL."""

MAX_LOOPS: Final = 32
# Each level multiplies the work.
MAX_LOOP_DEPTH: Final = 2

PATH: Final = re.compile(r"\s*([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\s*")
"""A plain path, such as ``nodes.parse.output.total``."""

_OPENING: Final = {")": "(", "]": "[", "}": "{"}
_NAME = re.compile(r"\s*([A-Za-z_]\w*)\s*")


@dataclass(frozen=True, slots=True)
class SizeSource:
    """The size of the value at a path."""

    target: str


@dataclass(frozen=True, slots=True)
class ElementSource:
    """An element of the value at a path, by an index that is not a plain string."""

    target: str
    index: str


@dataclass(frozen=True, slots=True)
class LoopSource:
    """A loop, with the texts of its parts.

    Attributes:
        macro: which loop it is.
        target: what it iterates over.
        name: the name of its variable.
        bodies: one expression, or two: the condition and the result of a ``map``.
    """

    macro: str
    target: str
    name: str
    bodies: tuple[str, ...]


NativeSource = LoopSource | SizeSource | ElementSource
_Span = tuple[int, int, NativeSource]


def split(source: str) -> tuple[str, list[NativeSource]]:
    """Replace the outermost parts that are evaluated here.

    Args:
        source: a valid expression.

    Returns:
        The expression with ``_h<n>()[0]`` in place of the n-th part, and the parts.
    """
    tokens = tokens_of(source)
    partners = _partners(tokens)
    found: list[_Span] = []
    # The last loop of a chain is the outer one, so begin at the end.
    index = len(tokens) - 1
    while index > 0:
        span = _native(source, tokens, partners, index) if index in partners else None
        if span is None:
            index -= 1
        else:
            found.append(span)
            while index >= 0 and tokens[index].start >= span[0]:
                index -= 1
    found.reverse()
    for number, (start, end, _) in reversed(list(enumerate(found))):
        source = f"{source[:start]}{hole(number)}()[0]{source[end:]}"
    return source, [native for _, _, native in found]


def _native(
    source: str, tokens: Sequence[Token], partners: dict[int, int], closing: int
) -> _Span | None:
    """Return the native part that ends with a closing bracket, and where it starts and ends."""
    opening, end = partners[closing], tokens[closing].end
    before = [token.text for token in tokens[max(opening - 2, 0) : opening]]
    if _is_loop(tokens, opening):
        start = _operand_start(tokens, partners, opening - 3)
        return tokens[start].start, end, _loop(source, tokens, start, opening, closing)
    if before == [".", "size"] and closing == opening + 1 and opening > 2:
        start = tokens[_operand_start(tokens, partners, opening - 3)].start
        target = source[start : tokens[opening - 2].start]
        return (start, end, SizeSource(target)) if PATH.fullmatch(target) else None
    inside = source[tokens[opening].end : tokens[closing].start]
    if before[-1:] == ["size"] and before[:1] != ["."] and PATH.fullmatch(inside):
        return tokens[opening - 1].start, end, SizeSource(inside)
    is_index = tokens[opening].text == "[" and opening > 0 and _ends_operand(tokens[opening - 1])
    if is_index and not (closing == opening + 2 and tokens[opening + 1].kind == "string"):
        start = tokens[_operand_start(tokens, partners, opening - 1)].start
        target = source[start : tokens[opening].start]
        return (start, end, ElementSource(target, inside)) if PATH.fullmatch(target) else None
    return None


def hole(number: int) -> str:
    """Return the name of the function that evaluates a part."""
    return f"_h{number}"


def check_loops(source: str) -> None:
    """Refuse expressions with too many loops.

    Raises:
        InvalidExpressionError: there are too many, or they are nested too deeply.
    """
    tokens = tokens_of(source)
    count = 0
    # For each open parenthesis, whether it is that of a loop.
    open_: list[bool] = []
    for index, token in enumerate(tokens):
        if token.text == "(":
            open_.append(_is_loop(tokens, index))
            count += open_[-1]
            if sum(open_) > MAX_LOOP_DEPTH:
                message = f"loops nested more than {MAX_LOOP_DEPTH} deep"
                raise InvalidExpressionError(message, token.start + 1)
            if count > MAX_LOOPS:
                message = f"more than {MAX_LOOPS} loops"
                raise InvalidExpressionError(message, token.start + 1)
        elif token.text == ")" and open_:
            open_.pop()


def _is_loop(tokens: Sequence[Token], opening: int) -> bool:
    return opening > 1 and tokens[opening - 1].text in MACROS and tokens[opening - 2].text == "."


def _partners(tokens: Sequence[Token]) -> dict[int, int]:
    """Return the index of the opening bracket for each closing one."""
    partners, open_ = dict[int, int](), list[int]()
    for index, token in enumerate(tokens):
        if token.kind != "mark":
            continue
        if token.text in _OPENING.values():
            open_.append(index)
        elif token.text in _OPENING and open_:
            partners[index] = open_.pop()
    return partners


def _operand_start(tokens: Sequence[Token], partners: dict[int, int], last: int) -> int:
    """Return the first token of the operand that ends with the token ``last``."""
    index = last
    while True:
        if tokens[index].text in _OPENING and tokens[index].kind == "mark":
            is_brace = tokens[index].text == "}"
            index = partners[index]
            # A call or an index belongs to what is before it; a list, a map or a group does not.
            if not is_brace and index > 0 and _ends_operand(tokens[index - 1]):
                index -= 1
                continue
        if index > 1 and tokens[index - 1].text == "." and _ends_operand(tokens[index - 2]):
            index -= 2
            continue
        return index


def _ends_operand(token: Token) -> bool:
    if token.kind == "name":
        return token.text != "in"
    return token.kind in {"string", "number"} or token.text in _OPENING


def _loop(
    source: str, tokens: Sequence[Token], start: int, opening: int, closing: int
) -> LoopSource:
    target = source[tokens[start].start : tokens[opening - 2].start]
    commas, depth = [tokens[opening].start], 0
    for token in tokens[opening + 1 : closing]:
        if token.kind == "mark":
            depth += (token.text in _OPENING.values()) - (token.text in _OPENING)
            if token.text == "," and not depth:
                commas.append(token.start)
    ends = [*commas[1:], tokens[closing].start]
    name, *bodies = [source[first + 1 : end] for first, end in zip(commas, ends, strict=True)]
    plain = _NAME.fullmatch(name)
    if plain is None or not bodies:
        raise InvalidExpressionError("a loop needs a name and an expression", commas[0] + 1)
    return LoopSource(tokens[opening - 1].text, target, plain[1], tuple(bodies))
