"""Redact secrets by value from everything that a node returns.

Most leaks are accidents: an error that quotes its URL, a server that echoes a header. So a secret
is searched for in its plain form and as escaped in URLs, JSON, HTML, hexadecimal and Base64, in
Base64 also as part of a longer text (``user:password``). This is no defence against a node that
leaks on purpose: code that has a secret can encode it in any way.
"""

import base64
import functools
import html
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import msgspec

from tailrace_shared.redact.masking import MASK

_MIN_LINE_CHARACTERS: Final = 8
# More backslashes before a character would mean more than three levels of escaping.
_MAX_BACKSLASHES: Final = 8
_NAMED_ESCAPES: Final = {"\n": "n", "\r": "r", "\t": "t"}
_ENCODERS: Final[tuple[Callable[[str], str], ...]] = (
    str,
    lambda text: json.dumps(text)[1:-1],
    lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    lambda text: repr(text)[1:-1],
    html.escape,
    urllib.parse.quote,
    urllib.parse.quote_plus,
    lambda text: urllib.parse.quote(text, safe=""),
)


class Redactor:
    """Replaces secrets in texts and JSON values with a mask."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # A secret may be part of another one: replace the longer first.
        longest_first = sorted(set(secrets), key=len, reverse=True)
        self._patterns = [_pattern(secret) for secret in longest_first]

    def redact_text(self, text: str) -> str:
        """Return a text with every secret masked."""
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def redact_value(self, value: Any) -> Any:
        """Return a JSON value with every secret masked; the same object if it has none."""
        encoded = msgspec.json.encode(value).decode()
        if not any(pattern.search(encoded) for pattern in self._patterns):
            return value
        try:
            return self._redact(value)
        except RecursionError:
            return MASK

    def _redact(self, value: Any) -> Any:
        match value:
            case str():
                return self.redact_text(value)
            case dict():
                return {self._redact(key): self._redact(member) for key, member in value.items()}
            case list():
                return [self._redact(member) for member in value]
            case bool() | None:
                return value
            case _:
                number = str(value)
                return value if self.redact_text(number) == number else MASK


@functools.lru_cache(maxsize=1024)
def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile("|".join(_alternatives(secret)))


def _alternatives(secret: str) -> Iterator[str]:
    # Whole encodings first: an escape within a secret could match as one of the characters
    # before it.
    for encode in _ENCODERS:
        yield re.escape(encode(secret))
    yield _escaped_pattern(secret)
    for line in map(str.strip, secret.splitlines()):
        # The lines of a key may be logged one by one; its first and last line are no secret.
        if secret != line and len(line) >= _MIN_LINE_CHARACTERS and not line.startswith("-----"):
            yield _escaped_pattern(line)
    encoded = secret.encode()
    yield f"(?i:{encoded.hex()})"
    for offset in range(3):
        yield _escaped_pattern(_base64_within(encoded, offset), url_safe=True)


def _base64_within(secret: bytes, offset: int) -> str:
    """Return the Base64 characters that depend only on a secret at byte ``offset`` of a text."""
    text = base64.b64encode(bytes(offset) + secret).decode()
    return text[-(-8 * offset // 6) : 8 * (offset + len(secret)) // 6]


def _escaped_pattern(text: str, *, url_safe: bool = False) -> str:
    pieces = []
    for run in re.findall(r"\\+|[^\\]", text, re.DOTALL):
        if run.startswith("\\"):
            # Each level of escaping doubles the backslashes.
            longest = _MAX_BACKSLASHES * (len(run) + 1)
            pieces.append(rf"(?>(?:\\|%5[cC]){{{len(run)},{longest}}})")
        else:
            after_run = bool(pieces) and pieces[-1].startswith(r"(?>(?:\\|")
            pieces.append(_character(run, url_safe=url_safe, after_run=after_run))
    return "".join(pieces)


@functools.lru_cache(maxsize=1024)
def _character(character: str, *, url_safe: bool, after_run: bool) -> str:
    """Return a pattern for one character, plain or escaped.

    The pattern is atomic and its repetitions are bounded, so that the response of a hostile server
    cannot make the search take exponential time (ReDoS, CWE-1333).
    """
    # No encoding escapes these, and a pattern that begins with plain text is found much faster.
    if character.isascii() and character.isalnum() and not after_run:
        return character
    # If a run of backslashes precedes the character, that run includes its escapes.
    escape = rf"\\{{{0 if after_run else 1},{_MAX_BACKSLASHES}}}"
    code = ord(character)
    units = character.encode("utf-16-be", "surrogatepass")
    forms = {
        rf"\\{{0,{_MAX_BACKSLASHES}}}{re.escape(character)}",
        "(?i:" + "".join(f"%{byte:02x}" for byte in character.encode()) + ")",
        "(?i:" + "".join(f"{escape}u{unit.hex()}" for unit in (units[:2], units[2:]) if unit) + ")",
        f"{escape}U(?i:{code:08x})",
        f"(?i:&#{code};|&#x{code:x};)",
        re.escape(html.escape(character)),
    }
    if code < 256:
        forms.add(f"{escape}x(?i:{code:02x})")
    if character in _NAMED_ESCAPES:
        forms.add(escape + _NAMED_ESCAPES[character])
    if character == "\n":
        forms.add(r"\r\n")
    if character == " ":
        forms.add(r"\+")
    if url_safe and character in "+/":
        forms.add({"+": "-", "/": "_"}[character])
    return "(?>" + "|".join(sorted(forms, key=len, reverse=True)) + ")"
