"""Redaction by value: a secret is found in whatever a node gives back, and replaced.

Most leaks are accidents: an error that quotes its URL, a server that echoes a header. So a secret
is looked for as it is and as URLs, JSON, HTML, hexadecimal and Base64 write it, the last also as
part of something longer (``user:password``). It is no defence against a node that means to leak:
whose code is given a secret can turn it into anything.
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

_SHORTEST_LINE: Final = 8
# So many backslashes before a character are seven times escaped, or not that character's.
_TIMES: Final = 8
_NAMED: Final = {"\n": "n", "\r": "r", "\t": "t"}
_WRITERS: Final[tuple[Callable[[str], str], ...]] = (
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
    """Replaces secrets wherever they turn up.

    Args:
        secrets: their values.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # Of secrets that are part of one another the longer must go first.
        longest_first = sorted(set(secrets), key=len, reverse=True)
        self._patterns = [_pattern(secret) for secret in longest_first]

    def redact_text(self, text: str) -> str:
        """Return a text without the secrets."""
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def redact_value(self, value: Any) -> Any:
        """Return a JSON value without the secrets; the very same object if it has none."""
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
    return re.compile("|".join(_forms(secret)))


def _forms(secret: str) -> Iterator[str]:
    # First as whole texts: an escape within a secret could be taken for one of the characters
    # before it.
    for write in _WRITERS:
        yield re.escape(write(secret))
    yield _written(secret)
    for line in map(str.strip, secret.splitlines()):
        # The lines of a key are logged one by one; the first and the last are everybody's.
        if secret != line and len(line) >= _SHORTEST_LINE and not line.startswith("-----"):
            yield _written(line)
    encoded = secret.encode()
    yield f"(?i:{encoded.hex()})"
    for offset in range(3):
        yield _written(_base64_within(encoded, offset), url_safe=True)


def _base64_within(secret: bytes, offset: int) -> str:
    """Return the characters that stand for nothing but the secret, ``offset`` bytes into a text."""
    text = base64.b64encode(bytes(offset) + secret).decode()
    return text[-(-8 * offset // 6) : 8 * (offset + len(secret)) // 6]


def _written(text: str, *, url_safe: bool = False) -> str:
    pieces = []
    for run in re.findall(r"\\+|[^\\]", text, re.DOTALL):
        if run.startswith("\\"):
            # As many as there are, or as many again for each time that they were escaped.
            pieces.append(rf"(?>(?:\\|%5[cC]){{{len(run)},{_TIMES * (len(run) + 1)}}})")
        else:
            after_run = bool(pieces) and pieces[-1].startswith(r"(?>(?:\\|")
            pieces.append(_character(run, url_safe=url_safe, after_run=after_run))
    return "".join(pieces)


@functools.lru_cache(maxsize=1024)
def _character(character: str, *, url_safe: bool, after_run: bool) -> str:
    """Return a pattern for one character as it is and as it may be escaped.

    It is atomic, and what it repeats is bounded: an answer from somewhere must not be able to keep
    a worker searching.
    """
    # Nobody escapes these, and a pattern that begins with a plain text is found much faster.
    if character.isascii() and character.isalnum() and not after_run:
        return character
    # Backslashes before it belong to the run, if there is one.
    escape = rf"\\{{{0 if after_run else 1},{_TIMES}}}"
    code = ord(character)
    units = character.encode("utf-16-be", "surrogatepass")
    forms = {
        rf"\\{{0,{_TIMES}}}{re.escape(character)}",
        "(?i:" + "".join(f"%{byte:02x}" for byte in character.encode()) + ")",
        "(?i:" + "".join(f"{escape}u{unit.hex()}" for unit in (units[:2], units[2:]) if unit) + ")",
        f"{escape}U(?i:{code:08x})",
        f"(?i:&#{code};|&#x{code:x};)",
        re.escape(html.escape(character)),
    }
    if code < 256:
        forms.add(f"{escape}x(?i:{code:02x})")
    if character in _NAMED:
        forms.add(escape + _NAMED[character])
    if character == "\n":
        forms.add(r"\r\n")
    if character == " ":
        forms.add(r"\+")
    if url_safe and character in "+/":
        forms.add({"+": "-", "/": "_"}[character])
    return "(?>" + "|".join(sorted(forms, key=len, reverse=True)) + ")"
