"""Find copies of an execution's sensitive values.

A value is marked in one event but may be copied into other outputs, messages and errors. So
sensitive values are also found by their content. Values shorter than four characters would match
everywhere, and are only masked where they are marked.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Self

import msgspec

from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.json_pointer import join_pointer, split_pointer
from tailrace_shared.redact.masking import MASK
from tailrace_shared.workflow.sensitive_fields import limit_pointers

MIN_CHARACTERS: Final = 4
MAX_VALUES: Final = 5000
"""Maximum number of values to find; further ones are only masked where they are marked."""
# Bounds the CPU time of a search to about half a second. Beyond this many pairs of a sensitive
# value and a character (or a text), the whole document is marked.
_MAX_CHARACTERS: Final = 500_000_000
_MAX_TEXTS: Final = 5_000_000
# Messages and errors are truncated at this length or later, and may end within a value.
_CUT_AT: Final = 2048

_encode: Final = msgspec.json.Encoder().encode


class SensitiveValues:
    """The sensitive texts and numbers of an execution."""

    def __init__(self) -> None:
        # Each value, and its JSON form.
        self._words: dict[str, str] = {}

    @classmethod
    def of(cls, state: ExecutionState) -> Self:
        """Collect the sensitive values of an execution from its input and fetched outputs."""
        values = cls()
        values.add(state.input, state.sensitive)
        for step in state.steps.values():
            if step.sensitive and step.output is not msgspec.UNSET:
                values.add(step.output, step.sensitive)
            if step.resolution is not None and step.resolution.sensitive:
                received = {"data": step.resolution.data, "event": step.resolution.event}
                values.add(received, step.resolution.sensitive)
        return values

    def __bool__(self) -> bool:
        return bool(self._words)

    def add(self, value: Any, pointers: Iterable[str]) -> None:
        for pointer in pointers:
            for word in _leaves(_at(value, split_pointer(pointer))):
                if len(word) >= MIN_CHARACTERS and len(self._words) < MAX_VALUES:
                    self._words.setdefault(word, _encode(word).decode()[1:-1])

    def redact(self, text: str) -> str:
        found = [word for word in self._words if word in text]
        for word in sorted(found, key=len, reverse=True):
            text = text.replace(word, MASK)
        return self._redact_end(text) if len(text) >= _CUT_AT else text

    def find(self, value: Any) -> list[str]:
        """Return pointers to copies of sensitive values in a JSON value."""
        encoded = _encode(value).decode()
        if len(self._words) * len(encoded) > _MAX_CHARACTERS:
            return [""]
        words = {word for word, written in self._words.items() if written in encoded}
        if not words:
            return []
        if len(words) * _max_leaves(encoded) > _MAX_TEXTS:
            return [""]
        try:
            return limit_pointers(join_pointer("", *path) for path in _found(value, words, ()))
        except RecursionError:
            return [""]

    def _redact_end(self, text: str) -> str:
        cuts = (_cut(text, word) for word in self._words)
        cut = min((cut for cut in cuts if cut >= 0), default=-1)
        return text if cut < 0 else text[:cut] + MASK


def _cut(text: str, word: str) -> int:
    """Return where a truncated ``word`` begins that the text ends with, or -1."""
    start = word[:MIN_CHARACTERS]
    at = text.find(start, max(0, len(text) - len(word) + 1))
    while at >= 0 and not word.startswith(text[at:]):
        at = text.find(start, at + 1)
    return at


def _max_leaves(encoded: str) -> int:
    """Return an upper bound of the number of texts and numbers in a JSON document."""
    return encoded.count(",") + encoded.count(":") + 1


def _at(value: Any, tokens: list[str]) -> Any:
    for token in tokens:
        if isinstance(value, dict) and token in value:
            value = value[token]
        elif isinstance(value, list) and token.isdecimal() and int(token) < len(value):
            value = value[int(token)]
        else:
            return None
    return value


def _leaves(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case dict() as members:
                waiting.extend(members.values())
            case list() as items:
                waiting.extend(items)
            case bool() | None:
                pass
            case number:
                yield _encode(number).decode()


def _found(
    value: Any, words: set[str], path: tuple[str | int, ...]
) -> Iterator[tuple[str | int, ...]]:
    match value:
        case str():
            if any(word in value for word in words):
                yield path
        case dict():
            if any(word in key for word in words for key in value):
                yield path  # a key cannot be masked, so the whole object is
                return
            for key, member in value.items():
                yield from _found(member, words, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from _found(item, words, (*path, index))
        case bool() | None:
            return
        case _:
            if _encode(value).decode() in words:
                yield path
