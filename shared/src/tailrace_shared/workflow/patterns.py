"""Regular expressions of tenants: matched in linear time, and compiled once.

The engine is RE2, which CEL's specification names. It has neither look-around nor back-references,
and the size of a compiled pattern is limited.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any, Final

import re2  # type: ignore[import-untyped]

_MAX_COMPILED_BYTES: Final = 256 * 1024
_COMPILED: Final = 1024
# An instruction for each byte of the text, in microseconds; most patterns take a fiftieth of that.
_INSTRUCTION_US: Final = 0.006

# RE2 knows the short names of Unicode's general categories, ECMAScript the long ones as well.
_CATEGORIES: Final = {
    "Letter": "L",
    "Cased_Letter": "L",
    "Uppercase_Letter": "Lu",
    "Lowercase_Letter": "Ll",
    "Titlecase_Letter": "Lt",
    "Modifier_Letter": "Lm",
    "Other_Letter": "Lo",
    "Mark": "M",
    "Nonspacing_Mark": "Mn",
    "Spacing_Mark": "Mc",
    "Enclosing_Mark": "Me",
    "Number": "N",
    "Decimal_Number": "Nd",
    "digit": "Nd",
    "Letter_Number": "Nl",
    "Other_Number": "No",
    "Punctuation": "P",
    "punct": "P",
    "Connector_Punctuation": "Pc",
    "Dash_Punctuation": "Pd",
    "Open_Punctuation": "Ps",
    "Close_Punctuation": "Pe",
    "Initial_Punctuation": "Pi",
    "Final_Punctuation": "Pf",
    "Other_Punctuation": "Po",
    "Symbol": "S",
    "Math_Symbol": "Sm",
    "Currency_Symbol": "Sc",
    "Modifier_Symbol": "Sk",
    "Other_Symbol": "So",
    "Separator": "Z",
    "Space_Separator": "Zs",
    "Line_Separator": "Zl",
    "Paragraph_Separator": "Zp",
    "Other": "C",
    "Control": "Cc",
    "Format": "Cf",
}
_UNSUPPORTED: Final = {
    r"operator: \(\?<?[=!]": "look-arounds",
    r"sequence: \\([0-9]|k)": "backreferences",
}
# RE2's `\\s` has no Unicode.
_SPACES: Final = (
    r"\t-\r\x20\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
)
_ESCAPE = re.compile(
    r"(?P<bracket>[\[\]])|\\(?:u\{(?P<braced>0*[0-9A-Fa-f]{1,6})\}"
    r"|u(?P<high>[Dd][89ABab][0-9A-Fa-f]{2})\\u(?P<low>[Dd][C-Fc-f][0-9A-Fa-f]{2})"
    r"|u(?P<four>[0-9A-Fa-f]{4})"
    r"|c(?P<control>[A-Za-z])"
    r"|(?P<property>[pP])\{(?:(?:General_Category|gc|Script|sc)=)?(?P<name>\w+)\}"
    r"|.)",
    re.DOTALL,
)


class PatternError(ValueError):
    """A pattern is not supported; the message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern.

    Attributes:
        size: number of its instructions.
    """

    size: int
    _program: Any

    def matches(self, text: str) -> bool:
        """Tell whether the pattern matches somewhere in a text."""
        return self._program.search(text) is not None

    def cost(self, text: str) -> float:
        """Return the time in microseconds that a match takes at most."""
        length = len(text) if text.isascii() else 4 * len(text)
        return 1 + length * self.size * _INSTRUCTION_US


@functools.lru_cache(maxsize=_COMPILED)
def compile_pattern(pattern: str) -> Pattern:
    """Compile a pattern in the syntax of RE2, with the escapes of ECMAScript.

    Raises:
        PatternError: the pattern is invalid, too large, or needs backtracking.
    """
    options = re2.Options()
    options.max_mem = _MAX_COMPILED_BYTES
    options.log_errors = False
    try:
        program = re2.compile(_translated(pattern), options)
    except (re2.error, ValueError) as error:
        reason = error.args[0] if error.args else error
        detail = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        for sign, meaning in _UNSUPPORTED.items():
            if re.search(sign, detail):
                detail = f"{meaning} are not supported"
        raise PatternError(f"{pattern[:80]!r}: {detail[:200]}") from None
    return Pattern(max(program.programsize, 1), program)


def _translated(pattern: str) -> str:
    is_class = False

    def translate(found: re.Match[str]) -> str:
        nonlocal is_class
        if found["bracket"]:
            is_class = found["bracket"] == "["
        elif found[0] == r"\s":
            return _SPACES if is_class else f"[{_SPACES}]"
        elif found[0] == r"\S" and not is_class:
            return f"[^{_SPACES}]"
        return _escaped(found)

    return _ESCAPE.sub(translate, pattern)


def _escaped(found: re.Match[str]) -> str:
    if code := found["braced"] or found["four"]:
        return rf"\x{{{code}}}"
    if found["high"]:
        pair = bytes.fromhex(found["high"] + found["low"]).decode("utf-16-be")
        return rf"\x{{{ord(pair):x}}}"
    if found["control"]:
        return rf"\x{ord(found['control']) % 32:02x}"
    if found["property"]:
        return rf"\{found['property']}{{{_CATEGORIES.get(found['name'], found['name'])}}}"
    return found[0]
