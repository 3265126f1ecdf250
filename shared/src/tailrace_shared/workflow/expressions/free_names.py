"""Find the names that a CEL expression takes from outside, from its tokens.

The CEL library does not expose its syntax tree, so this module scans the text. It errs on the safe
side: where it cannot tell which node is meant, the expression gets all of them.
"""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tailrace_shared.errors import InvalidExpressionError
from tailrace_shared.workflow.expressions.evaluation_cost import MACROS, Loops

# Each level multiplies the work; `evaluation_cost` bounds what remains.
MAX_MACRO_DEPTH: Final = 2

# Words that are not references: literals, an operator, and the types that `type(x)` returns.
_RESERVED: Final = frozenset(
    [
        *("true", "false", "null", "in"),
        *("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"),
    ]
)
# An unterminated string consumes the rest of the text. Looking for strings in that rest again
# and again would take quadratic time.
TOKEN = re.compile(
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
# After one of these a string is only a part of what is compared.
_GOES_ON: Final = frozenset({"+", ".", "["})
_PLAIN_STRING = re.compile(r"""('|")([^'"\\]*)\1""")


@dataclass(frozen=True, slots=True)
class FreeNames:
    """The names that an expression takes from outside.

    Attributes:
        nodes: ids of the nodes that it names; None if it uses ``nodes`` as a whole.
        loops: its loops, for the cost check.
        paths: its references as far as they are constant, such as ``("input", "rate")``.
        statuses: the strings that it compares with the status of a node.
    """

    names: frozenset[str]
    nodes: frozenset[str] | None
    loops: Loops
    paths: frozenset[tuple[str, ...]]
    statuses: frozenset[str]


def find_free_names(source: str) -> FreeNames:
    """Scan an expression for the names that it takes from outside.

    Raises:
        InvalidExpressionError: its loops are nested too deeply.
    """
    tokens = [m for m in TOKEN.finditer(source) if m.lastgroup not in {"space", "comment"}]
    texts = [token[0] for token in tokens] + [""] * 6
    kinds = [token.lastgroup for token in tokens] + [""] * 6
    paths, statuses = set[tuple[str, ...]](), set[str]()
    names: set[str] = set()
    nodes: set[str] | None = set()
    max_power, bodies = 0, set[tuple[int, tuple[str, ...]]]()
    # For each open parenthesis the name that it binds, and the power of its loop (0: no loop).
    open_: list[tuple[str, int]] = []
    for index, token in enumerate(tokens):
        text = token[0]
        if text == "(":
            power = MACROS.get(texts[index - 1], 0) if texts[index - 2] == "." else 0
            open_.append((texts[index + 1] if power else "", power))
            max_power = max(max_power, power)
            if sum(bool(each) for _name, each in open_) > MAX_MACRO_DEPTH:
                raise InvalidExpressionError(
                    f"loops nested more than {MAX_MACRO_DEPTH} deep", token.start() + 1
                )
        elif text == ")" and open_:
            open_.pop()
        is_free = kinds[index] == "name" and texts[index - 1] != "." and texts[index + 1] != "("
        if not is_free or text in _RESERVED or any(text == bound for bound, _power in open_):
            continue
        names.add(text)
        path, last = _reference_at(texts, kinds, index)
        paths.add(path)
        if len(path) == 3 and path[0] == "nodes" and path[2] == "status":
            statuses.update(_compared_with(texts, index, last))
        if depth := sum(bool(power) for _name, power in open_):
            bodies.add((depth, _path_at(texts, kinds, index)))
        if text == "nodes" and nodes is not None:
            node = _node_named_after(texts, kinds, index)
            nodes = None if node is None else nodes | {node}
    return FreeNames(
        frozenset(names),
        None if nodes is None else frozenset(nodes),
        Loops(max_power, frozenset(bodies)),
        frozenset(paths),
        frozenset(statuses),
    )


def rename_calls(source: str, name: str, new: str) -> str:
    """Rename the calls of a function to a name of the same length, so that columns stay."""
    tokens = [m for m in TOKEN.finditer(source) if m.lastgroup not in {"space", "comment"}]
    calls = [
        token
        for token, following in itertools.pairwise(tokens)
        if token[0] == name and following[0] == "("
    ]
    for token in calls:
        source = source[: token.start()] + new + source[token.end() :]
    return source


def _path_at(texts: list[str], kinds: list[str | None], index: int) -> tuple[str, ...]:
    path = [texts[index]]
    while texts[index + 1] == "." and kinds[index + 2] == "name":
        index += 2
        path.append(texts[index])
    return tuple(path)


def _reference_at(
    texts: list[str], kinds: list[str | None], index: int
) -> tuple[tuple[str, ...], int]:
    """Return the constant part of a reference, and the index of its last token."""
    path = [texts[index]]
    while True:
        if texts[index + 1] == "." and kinds[index + 2] == "name" and texts[index + 3] != "(":
            index += 2
            path.append(texts[index])
        elif (
            texts[index + 1] == "["
            and texts[index + 3] == "]"
            and (plain := _PLAIN_STRING.fullmatch(texts[index + 2]))
        ):
            index += 3
            path.append(plain[2])
        else:
            return tuple(path), index


def _compared_with(texts: list[str], first: int, last: int) -> Iterator[str]:
    """Yield the plain strings that the reference between two tokens is compared with."""
    literals = []
    if texts[last + 1] in {"=", "!"} and texts[last + 2] == "=" and texts[last + 4] not in _GOES_ON:
        literals.append(texts[last + 3])
    elif texts[last + 1] == "in" and texts[last + 2] == "[":
        end = texts.index("]", last) if "]" in texts[last:] else last
        literals += texts[last + 3 : end]
    if first > 2 and texts[first - 1] == "=" and texts[first - 2] in {"=", "!"}:
        literals.append(texts[first - 3])
    for literal in literals:
        if plain := _PLAIN_STRING.fullmatch(literal):
            yield plain[2]


def _node_named_after(texts: list[str], kinds: list[str | None], index: int) -> str | None:
    if texts[index + 1] == "." and kinds[index + 2] == "name" and texts[index + 3] != "(":
        return texts[index + 2]
    if texts[index + 1] == "[" and texts[index + 3] == "]":
        # A string with a prefix or escapes may name any node.
        plain = _PLAIN_STRING.fullmatch(texts[index + 2])
        return plain and plain[2]
    return None
