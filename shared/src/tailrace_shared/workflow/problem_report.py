"""ProblemReport of a document, collected with their places, and the checks of plain values."""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from tailrace_shared.duration import Duration
from tailrace_shared.json_pointer import join_pointer

MAX_PROBLEMS: Final = 1000
MAX_HINTS: Final = 50


class Problem(msgspec.Struct, frozen=True):
    """One problem of a document.

    Attributes:
        detail: what is wrong, and how to correct it.
    """

    pointer: str
    detail: str


class ProblemReport:
    """Collects all problems of one document.

    Attributes:
        places: maps pointers into the canonical document to pointers into the original one.
    """

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.places: Mapping[str, str] = {}
        self._hints_left = MAX_HINTS

    def report(self, pointer: str, detail: str) -> None:
        # Bounds the response for a definition with thousands of invalid nodes.
        if len(self.found) < MAX_PROBLEMS:
            self.found.append(Problem(self._place(pointer), detail))

    def nearest(self, word: str, known: Collection[str]) -> str:
        """Suggest the known name that is most similar to ``word``, or return an empty text."""
        # Each search through thousands of names takes milliseconds.
        if self._hints_left <= 0:
            return ""
        self._hints_left -= 1
        return nearest(word, known)

    def _place(self, pointer: str) -> str:
        known, rest = pointer, ""
        while known and known not in self.places:
            known, slash, token = known.rpartition("/")
            rest = f"{slash}{token}{rest}"
        return self.places.get(known, "") + rest

    # Objects

    def fields(
        self,
        pointer: str,
        value: Mapping[str, Any],
        known: Collection[str],
        required: Iterable[str] = (),
    ) -> None:
        """Check that an object has all required and no unknown fields."""
        for key in value:
            if key not in known:
                self.report(
                    join_pointer(pointer, key), f"unknown field {key!r}{self.nearest(key, known)}"
                )
        for key in required:
            if key not in value:
                self.report(pointer, f"the field {key!r} is missing")

    def optional(
        self, value: Mapping[str, Any], pointer: str, key: str, check: Callable[[str, Any], object]
    ) -> None:
        if key in value:
            check(f"{pointer}/{key}", value[key])

    # Values

    def text(self, pointer: str, value: Any) -> None:
        if not isinstance(value, str):
            self.report(pointer, "must be a string")

    def boolean(self, pointer: str, value: Any) -> None:
        if not isinstance(value, bool):
            self.report(pointer, "must be true or false")

    def object(self, pointer: str, value: Any) -> None:
        if not isinstance(value, dict):
            self.report(pointer, "must be an object")

    def number(
        self, least: float, most: float, *, whole: bool = False
    ) -> Callable[[str, Any], None]:
        """Return a check for a number in a range."""

        def check(pointer: str, value: Any) -> None:
            kinds = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds):
                self.report(pointer, "must be an integer" if whole else "must be a number")
            elif not least <= value <= most:
                self.report(pointer, f"must be from {least} to {most}")

        return check

    def choice(self, choices: Collection[str]) -> Callable[[str, Any], None]:
        """Return a check for one of several values."""

        def check(pointer: str, value: Any) -> None:
            if value not in choices:
                near = self.nearest(value, choices) if isinstance(value, str) else ""
                self.report(pointer, f"must be one of {', '.join(choices)}{near}")

        return check

    def duration(self, pointer: str, value: Any) -> Duration | None:
        """Check for a duration, and return it if it is valid."""
        try:
            return Duration.parse(value if isinstance(value, str) else repr(value))
        except ValueError as error:
            self.report(pointer, str(error))
            return None

    def positive_duration(self, pointer: str, value: Any) -> None:
        duration = self.duration(pointer, value)
        if duration is not None and not duration:
            self.report(pointer, "must be greater than zero")

    def timestamp(self, pointer: str, value: Any) -> None:
        """Check for a timestamp with a time zone."""
        if not _is_rfc3339(value):
            self.report(pointer, "must be an RFC 3339 time such as 2024-01-15T10:30:00Z")


def without_nulls(value: Mapping[str, Any], fields: Collection[str]) -> dict[str, Any]:
    """Return an object without those of the fields that are null."""
    return {key: each for key, each in value.items() if each is not None or key not in fields}


def nearest(word: str, known: Iterable[str]) -> str:
    """Suggest the known name that is most similar to ``word``, or return an empty text."""
    matches = difflib.get_close_matches(word, list(known)[:2000], n=1)
    return f", did you mean {matches[0]!r}?" if matches else ""


def _is_rfc3339(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (ValueError, TypeError):
        return False
