"""The tokens of a CEL expression. The CEL library does not expose its syntax tree."""

import functools
import itertools
import re
from typing import NamedTuple

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


class Token(NamedTuple):
    """A part of the text: a ``string``, ``number``, ``name`` or single ``mark``."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


# One compilation looks at the tokens of the same text several times.
@functools.lru_cache(maxsize=16)
def tokens_of(source: str) -> tuple[Token, ...]:
    """Return the tokens of an expression, without spaces and comments."""
    return tuple(
        Token(match.lastgroup or "", match[0], match.start())
        for match in TOKEN.finditer(source)
        if match.lastgroup not in {"space", "comment"}
    )


def rename_calls(source: str, name: str, new: str) -> str:
    """Rename the calls of a function to a name of the same length, so that columns stay."""
    for token, following in itertools.pairwise(tokens_of(source)):
        if token.text == name and token.kind == "name" and following.text == "(":
            source = source[: token.start] + new + source[token.end :]
    return source
