"""The values of an execution that nobody is shown, and where else they turn up. Pure.

A place is marked once, but its value is copied: into other outputs, into messages and errors. So
what is marked is also looked for by value. Values shorter than four characters are not: they
would be found in everything, and have to be marked where they are.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final, Self

import msgspec

from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.json_pointer import join_pointer, split_pointer
from tailrace_shared.redact.masking import MASK
from tailrace_shared.workflow.sensitive_fields import limit_pointers

MIN_CHARACTERS: Final = 4
MOST_WORDS: Final = 5000
"""Values of one execution that are looked for; what is marked beyond is masked where it is."""
# Nobody may keep a worker searching: beyond so many pairs of a word and a character, or of a word
# and a text of the value, all of the value is marked. Either is half a second's work.
_MOST_CHARACTERS: Final = 500_000_000
_MOST_TEXTS: Final = 5_000_000
# Messages and errors are cut at that length or beyond, and may end in the midst of a value.
_CUT_AT: Final = 2048

_encode: Final = msgspec.json.Encoder().encode


class SensitiveValues:
    """Texts and numbers that nobody is shown."""

    def __init__(self) -> None:
        # Each word as it is, and as JSON writes it.
        self._words: dict[str, str] = {}

    @classmethod
    def of(cls, state: ExecutionState) -> Self:
        """Return those of an execution, as far as its outputs are at hand."""
        values = cls()
        values.add(state.input, state.sensitive)
        for step in state.steps.values():
            if step.sensitive and step.output is not msgspec.UNSET:
                values.add(step.output, step.sensitive)
            if step.resolution is not None and step.resolution.sensitive:
                brought = {"data": step.resolution.data, "event": step.resolution.event}
                values.add(brought, step.resolution.sensitive)
        return values

    def __bool__(self) -> bool:
        return bool(self._words)

    def add(self, value: Any, pointers: Iterable[str]) -> None:
        """Take in what a value has at the places that nobody is shown."""
        for pointer in pointers:
            for word in _leaves(_at(value, split_pointer(pointer))):
                if len(word) >= MIN_CHARACTERS and len(self._words) < MOST_WORDS:
                    self._words.setdefault(word, _encode(word).decode()[1:-1])

    def redact(self, text: str) -> str:
        """Return a text without them."""
        found = [word for word in self._words if word in text]
        for word in sorted(found, key=len, reverse=True):
            text = text.replace(word, MASK)
        return self._without_end(text) if len(text) >= _CUT_AT else text

    def find(self, value: Any) -> list[str]:
        """Return where they turn up in a JSON value, as JSON Pointers."""
        encoded = _encode(value).decode()
        if len(self._words) * len(encoded) > _MOST_CHARACTERS:
            return [""]
        words = {word for word, written in self._words.items() if written in encoded}
        if not words:
            return []
        if len(words) * _parts(encoded) > _MOST_TEXTS:
            return [""]
        try:
            return limit_pointers(join_pointer("", *path) for path in _found(value, words, ()))
        except RecursionError:
            return [""]

    def _without_end(self, text: str) -> str:
        cuts = (_cut(text, word) for word in self._words)
        cut = min((cut for cut in cuts if cut >= 0), default=-1)
        return text if cut < 0 else text[:cut] + MASK


def _cut(text: str, word: str) -> int:
    """Return where a text begins to end like the word begins; -1 if it does not."""
    start = word[:MIN_CHARACTERS]
    at = text.find(start, max(0, len(text) - len(word) + 1))
    while at >= 0 and not word.startswith(text[at:]):
        at = text.find(start, at + 1)
    return at


def _parts(encoded: str) -> int:
    """Return how many texts and numbers a JSON value has at the most."""
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
                yield path  # a key cannot be masked, so all of it is
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
