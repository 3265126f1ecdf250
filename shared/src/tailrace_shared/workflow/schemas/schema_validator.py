"""JSON Schema (draft 2020-12) by whoever may store one: a check that ends, and soon.

Schemas are told by tenants, and values by their clients. Three things of the library take as long
as one likes: patterns that backtrack, texts or objects that must be unique and cannot be sorted,
and references to references, each used twice. Patterns are matched in linear time here, by the
engine that CEL's ``matches`` has, which knows neither look-around nor back-references; unique items
are hashed; and all of a check has so many seconds of the processor.
"""

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import cel
import jsonschema
import jsonschema.validators

MOST_SECONDS: Final = 5.0
"""Of the processor, for one check that others need not wait for."""
INLINE_SECONDS: Final = 0.3
"""The same, where everything else waits meanwhile."""

_LONGEST_TEXT: Final = 100_000
_STANDARD: Final = jsonschema.Draft202012Validator
_program: Final = cel.compile("text.matches(pattern)")
_until: Final[ContextVar[float]] = ContextVar("until")

Errors = Iterator[jsonschema.ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Any]


class PatternError(ValueError):
    """A pattern that cannot be used; the message says why."""


class TooMuchError(Exception):
    """A check takes too long."""


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern is found in a text.

    Raises:
        PatternError: it is no pattern, or one that only backtracking could find.
    """
    _check_time()
    try:
        return bool(_program.execute({"text": text, "pattern": pattern}))
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("error: ")[2].rpartition(". Check function")[0]
        lines = [line.strip() for line in (reason or "it is not valid").splitlines()]
        raise PatternError(f"{pattern[:80]!r}: {lines[-1].removeprefix('error: ')}") from None


def begin(seconds: float) -> None:
    """Begin a check that has so many seconds of this thread."""
    _until.set(time.thread_time() + seconds)


def _check_time() -> None:
    if time.thread_time() > _until.get(float("inf")):
        raise TooMuchError


def _within_time(check: Keyword) -> Keyword:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        _check_time()
        return check(validator, value, instance, schema)

    return checked


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Errors:
    if not validator.is_type(instance, "string"):
        return
    if len(instance) > _LONGEST_TEXT:
        yield jsonschema.ValidationError("is too long a text to be matched with a pattern")
    elif not matches(pattern, instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        for key, member in instance.items():
            if matches(pattern, key):
                yield from validator.descend(member, subschema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Any:
    patterns = schema.get("patternProperties")
    if patterns and validator.is_type(instance, "object"):
        # The library's own would match the patterns: it gets what none of them matches.
        instance = {
            key: member
            for key, member in instance.items()
            if not any(matches(pattern, key) for pattern in patterns)
        }
        schema = {key: value for key, value in schema.items() if key != "patternProperties"}
    return _STANDARD.VALIDATORS["additionalProperties"](validator, wanted, instance, schema)


def _unique_items(validator: Any, is_wanted: bool, instance: Any, _schema: Any) -> Errors:
    if not is_wanted or not validator.is_type(instance, "array"):
        return
    if len({_hashable(item) for item in instance}) < len(instance):
        yield jsonschema.ValidationError(f"{instance!r} has non-unique elements")


def _hashable(value: Any) -> Any:
    """Return what is equal for JSON values that are equal: 1 and 1.0 are, 1 and true are not."""
    match value:
        case bool():
            return (bool, value)
        case dict():
            return frozenset((key, _hashable(member)) for key, member in value.items())
        case list():
            return tuple(map(_hashable, value))
        case _:
            return value


def _evolve(self: Any, **changes: Any) -> Any:
    # Whatever `$schema` a part of the schema names: the library's own validator has no bounds.
    kept = {"schema": self.schema, "format_checker": self.format_checker}
    kept |= {"registry": self._registry, "_resolver": self._resolver}
    return type(self)(**{**kept, **changes})


BoundedValidator: Final[Any] = jsonschema.validators.extend(  # type: ignore[no-untyped-call]
    _STANDARD,
    {
        name: _within_time(check)
        for name, check in {
            **_STANDARD.VALIDATORS,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
            "uniqueItems": _unique_items,
        }.items()
    },
)
BoundedValidator.evolve = _evolve
