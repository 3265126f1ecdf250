"""A JSON Schema validator (draft 2020-12) with a time limit, for untrusted schemas.

Tenants write the schemas, and their clients send the values. The library has three unbounded
costs: patterns that backtrack, unique items that cannot be sorted, and nested references that are
each used twice. Here patterns are matched in linear time, and a text that is too long for its
pattern is refused. Unique items are hashed, and a check has a limit of CPU time.
"""

import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from fractions import Fraction
from typing import Any, Final

import jsonschema
import jsonschema.validators

from tailrace_shared.workflow import pace
from tailrace_shared.workflow.equality import equality_key
from tailrace_shared.workflow.patterns import PatternError, compile_pattern

MAX_SECONDS: Final = 2.0
"""CPU time limit of a check in a thread."""
INLINE_SECONDS: Final = 0.01
"""CPU time limit of a check on the event loop; one that takes longer is repeated in a thread."""

# The longest time that a match may take, if its pattern is as bad as can be.
_MAX_MATCH_US: Final = 5_000
_STANDARD: Final = jsonschema.Draft202012Validator
_until: Final[ContextVar[float]] = ContextVar("until")

Errors = Iterator[jsonschema.ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Any]


class TooSlowError(Exception):
    """A check exceeded its time limit."""


def matches(pattern: str, text: str) -> bool:
    """Tell whether a pattern matches somewhere in a text.

    Raises:
        PatternError: the pattern is invalid, needs backtracking, or is too large for the text.
    """
    check_time()
    compiled = compile_pattern(pattern)
    if compiled.cost(text) > _MAX_MATCH_US:
        raise PatternError(f"{pattern[:80]!r}: too large for a text of {len(text)} characters")
    return compiled.matches(text)


def begin(seconds: float) -> None:
    """Start the CPU time limit of a check in this thread."""
    _until.set(time.thread_time() + seconds)


def check_time() -> None:
    """Raise :class:`TooSlowError` after the time limit of this thread's check."""
    pace.pause()
    if time.thread_time() > _until.get(float("inf")):
        raise TooSlowError


def _within_time(check: Keyword) -> Keyword:
    def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        check_time()
        return check(validator, value, instance, schema)

    return checked


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Errors:
    if not validator.is_type(instance, "string"):
        return
    if not matches(pattern, instance):
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
        # The library would match the patterns itself, so it receives only the keys without a match.
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
    if len({equality_key(item) for item in instance}) < len(instance):
        yield jsonschema.ValidationError(f"{instance!r} has non-unique elements")


def _multiple_of(validator: Any, divisor: Any, instance: Any, _schema: Any) -> Errors:
    # The library divides floats, so 19.99 would be no multiple of 0.01.
    if validator.is_type(instance, "number") and _exact(instance) % _exact(divisor):
        yield jsonschema.ValidationError(f"{instance!r} is not a multiple of {divisor}")


def _exact(number: float) -> Fraction:
    """Return the number that is written in JSON, not the nearest binary one."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(number))


def _evolve(self: Any, **changes: Any) -> Any:
    # Keep this class for subschemas with another `$schema`: the library's have no limits.
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
            "multipleOf": _multiple_of,
            "uniqueItems": _unique_items,
        }.items()
    },
)
BoundedValidator.evolve = _evolve
