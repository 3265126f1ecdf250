"""Find the names that a CEL expression takes from outside, from its tokens.

The scan errs on the safe side: where it cannot tell which node is meant, the expression gets all
of them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tailrace_shared.workflow.expressions.loops import MACROS
from tailrace_shared.workflow.expressions.tokens import tokens_of

# Words that are not references: literals, an operator, and the types that `type(x)` returns.
_RESERVED: Final = frozenset(
    [
        *("true", "false", "null", "in"),
        *("int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"),
    ]
)
# After one of these a string is only a part of what is compared.
_GOES_ON: Final = frozenset({"+", ".", "["})
_PLAIN_STRING = re.compile(r"""('|")([^'"\\]*)\1""")


@dataclass(frozen=True, slots=True)
class FreeNames:
    """The names that an expression takes from outside.

    Attributes:
        nodes: ids of the nodes that it names; None if it uses ``nodes`` as a whole.
        references: its references as far as they are constant, such as ``("input", "rate")``, in
            the order of the text.
        statuses: the strings that it compares with the status of a node.
    """

    names: frozenset[str]
    nodes: frozenset[str] | None
    references: tuple[tuple[str, ...], ...]
    statuses: frozenset[str]


def find_free_names(source: str) -> FreeNames:
    """Scan an expression for the names that it takes from outside."""
    tokens = tokens_of(source)
    texts = [*(token.text for token in tokens), *[""] * 6]
    kinds = [*(token.kind for token in tokens), *[""] * 6]
    references: list[tuple[str, ...]] = []
    statuses: set[str] = set()
    names: set[str] = set()
    nodes: set[str] | None = set()
    # For each open parenthesis the name that it binds, if it is that of a loop.
    open_: list[str] = []
    for index, text in enumerate(texts[: len(tokens)]):
        if text == "(":
            is_loop = texts[index - 1] in MACROS and texts[index - 2] == "."
            open_.append(texts[index + 1] if is_loop else "")
        elif text == ")" and open_:
            open_.pop()
        is_free = kinds[index] == "name" and texts[index - 1] != "." and texts[index + 1] != "("
        if not is_free or text in _RESERVED or text in open_:
            continue
        names.add(text)
        path, last = _reference_at(texts, kinds, index)
        references.append(path)
        if len(path) == 3 and path[0] == "nodes" and path[2] == "status":
            statuses.update(_compared_with(texts, index, last))
        if text == "nodes" and nodes is not None:
            node = _node_named_after(texts, kinds, index)
            nodes = None if node is None else nodes | {node}
    return FreeNames(
        frozenset(names),
        None if nodes is None else frozenset(nodes),
        tuple(references),
        frozenset(statuses),
    )


def _reference_at(texts: list[str], kinds: list[str], index: int) -> tuple[tuple[str, ...], int]:
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


def _node_named_after(texts: list[str], kinds: list[str], index: int) -> str | None:
    if texts[index + 1] == "." and kinds[index + 2] == "name" and texts[index + 3] != "(":
        return texts[index + 2]
    if texts[index + 1] == "[" and texts[index + 3] == "]":
        # A string with a prefix or escapes may name any node.
        plain = _PLAIN_STRING.fullmatch(texts[index + 2])
        return plain and plain[2]
    return None
