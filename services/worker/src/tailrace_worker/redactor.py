"""Redaction by value: a secret is found in whatever a node gives back, and replaced.

Most leaks are accidents: an error that quotes its URL, a server that echoes a header. So a secret
is looked for as it is and as URLs, JSON, HTML, hexadecimal and Base64 write it, the last also as
part of something longer (``user:password``). It is no defence against a node that means to leak:
whose code is given a secret can turn it into anything.
"""

import base64
import functools
import html
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from tailrace_shared.masking import MASK

_SHORTEST_LINE: Final = 8


class Redactor:
    """Replaces secrets wherever they turn up.

    Args:
        secrets: their values.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        # Of secrets that are part of one another the longer must go first.
        longest_first = sorted(set(secrets), key=len, reverse=True)
        self._patterns = [_pattern(secret) for secret in longest_first]

    def text(self, text: str) -> str:
        """Return a text without the secrets."""
        for pattern in self._patterns:
            text = pattern.sub(MASK, text)
        return text

    def value(self, value: Any) -> Any:
        """Return a JSON value without the secrets; the very same object if it has none."""
        encoded = msgspec.json.encode(value).decode()
        if not any(pattern.search(encoded) for pattern in self._patterns):
            return value
        try:
            return self._without(value)
        except RecursionError:
            return MASK

    def _without(self, value: Any) -> Any:
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self._without(key): self._without(member) for key, member in value.items()}
            case list():
                return [self._without(member) for member in value]
            case bool() | None:
                return value
            case _:
                number = str(value)
                return value if self.text(number) == number else MASK


@functools.lru_cache(maxsize=1024)
def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile("|".join(_forms(secret)))


def _forms(secret: str) -> Iterator[str]:
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
    return "".join(_character(character, url_safe=url_safe) for character in text)


@functools.lru_cache(maxsize=1024)
def _character(character: str, *, url_safe: bool) -> str:
    """Return a pattern for one character as it is and as it may be escaped."""
    # Nobody escapes these, and a pattern that begins with a plain text is found much faster.
    if character.isascii() and character.isalnum():
        return character
    forms = {re.escape(character), rf"\\*{re.escape(character)}"}
    forms.add("(?i:" + "".join(f"%{byte:02x}" for byte in character.encode()) + ")")
    units = character.encode("utf-16-be", "surrogatepass")
    codes = (units[index : index + 2].hex() for index in range(0, len(units), 2))
    forms.add("(?i:" + "".join(rf"\\+u{code}" for code in codes) + ")")
    forms.add(rf"\\+U(?i:{ord(character):08x})")
    if ord(character) < 256:
        forms.add(rf"\\+x(?i:{ord(character):02x})")
    forms.add(f"(?i:&#{ord(character)};|&#x{ord(character):x};)")
    forms.add(re.escape(html.escape(character)))
    if character in "\n\r\t":
        forms.add(r"\\+" + {"\n": "n", "\r": "r", "\t": "t"}[character])
    if character == "\n":
        forms.add(r"\r\n")
    if character == " ":
        forms.add(r"\+")
    if url_safe and character in "+/":
        forms.add({"+": "-", "/": "_"}[character])
    if character == "\\":
        forms.add(r"\\+")
    return "(?:" + "|".join(sorted(forms, key=len, reverse=True)) + ")"
