"""JSON Schema (draft 2020-12) for the input of runs, and for the forms of steps that wait."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import jsonschema
import referencing
import referencing.exceptions
from jsonschema.protocols import Validator
from referencing.jsonschema import DRAFT202012

from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow.problem_report import Problem
from tailrace_shared.workflow.schemas.schema_validator import (
    MOST_SECONDS,
    BoundedValidator,
    PatternError,
    TooMuchError,
    begin,
    matches,
)
from tailrace_shared.workflow.sensitive_fields import sensitive_pointers, subschemas

_MOST_VIOLATIONS: Final = 100
_TOO_MUCH: Final = "the schema takes too long to check; make it simpler"
_BY_PATTERN: Final = "patternProperties"

# A `$ref` to another document would make the server fetch it; this registry fetches nothing.
_NO_RETRIEVAL: Final[referencing.Registry[Any]] = referencing.Registry()
_errors: Final = BoundedValidator(
    jsonschema.Draft202012Validator.META_SCHEMA,
    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
).iter_errors


def schema_problems(schema: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Return why ``schema`` is no JSON Schema that can be used here, each with its place."""
    begin(MOST_SECONDS)
    try:
        # Several parts of the metaschema may say the same of one place.
        found = dict.fromkeys((tuple(error.path), error.message) for error in _errors(schema))
        return (
            list(found)
            or [((), detail) for detail in _broken_references(schema)]
            or list(_unusable(schema))
        )
    except TooMuchError:
        return [((), _TOO_MUCH)]
    except RecursionError:
        return [((), "nested too deep")]
    except ValueError as error:
        return [((), f"it has an $id that is no URI: {error}")]


def _unusable(schema: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    keywords: set[str] = set()
    for path, each in subschemas(schema):
        keywords.update(each)
        patterns = {(*path, "pattern"): each["pattern"]} if "pattern" in each else {}
        patterns |= {(*path, _BY_PATTERN, key): key for key in each.get(_BY_PATTERN, ())}
        for place, pattern in patterns.items():
            try:
                matches(pattern, "")
            except PatternError as error:
                yield place, f"the pattern cannot be used: {error}"
    if keywords >= {_BY_PATTERN, "unevaluatedProperties"}:
        # The library would match the patterns by itself, however long that takes.
        yield (), f"unevaluatedProperties cannot be used together with {_BY_PATTERN}"


def _broken_references(schema: Any) -> Iterator[str]:
    root = DRAFT202012.create_resource(schema)
    waiting = [(root, _NO_RETRIEVAL.resolver_with_root(root))]
    checked: set[int] = set()
    targets: list[tuple[str, Any]] = []
    while waiting:
        resource, resolver = waiting.pop()
        checked.add(id(resource.contents))
        waiting.extend((sub, resolver.in_subresource(sub)) for sub in resource.subresources())
        for keyword in ("$ref", "$dynamicRef"):
            if isinstance(resource.contents, dict) and keyword in resource.contents:
                reference = resource.contents[keyword]
                try:
                    targets.append((reference, resolver.lookup(reference).contents))
                # A pointer into an array or a number fails in ways of its own.
                except (referencing.exceptions.Unresolvable, ValueError, TypeError):
                    yield f"{keyword} {reference!r} is not in the schema itself"
    for reference, contents in targets:
        # A reference may lead to where schemas need not be, such as the value of `const`.
        if id(contents) not in checked and any(_errors(contents)):
            yield f"what {reference!r} refers to is not a schema"
        checked.add(id(contents))


def compile_schema(schema: Any) -> Validator:
    """Return a validator for ``schema``, which must be one without :func:`schema_problems`."""
    validator: Validator = BoundedValidator(
        schema,
        registry=_NO_RETRIEVAL,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
    return validator


def violations(
    validator: Validator, field: str, value: Any, seconds: float = MOST_SECONDS
) -> list[Problem]:
    """Return where ``value``, called ``field`` in its document, is not what a schema asks for.

    Args:
        validator: of the schema.
        field: what the value is called.
        value: what is checked.
        seconds: how long that may take; beyond, it is refused as well.
    """
    begin(seconds)
    marked = sensitive_pointers(validator.schema, value)
    try:
        return [
            Problem(join_pointer("", field, *error.absolute_path), _sentence(error, marked)[:1000])
            for error in islice(validator.iter_errors(value), _MOST_VIOLATIONS)
        ]
    except referencing.exceptions.Unresolvable as error:
        return [Problem(f"/{field}", f"the workflow's schema refers to what is not there: {error}")]
    except TooMuchError:
        return [Problem(f"/{field}", _TOO_MUCH)]
    except PatternError as error:
        return [
            Problem(f"/{field}", f"the workflow's schema has a pattern that cannot be: {error}")
        ]
    except RecursionError:
        return [Problem(f"/{field}", "the workflow's schema refers to itself without end")]


def _sentence(error: jsonschema.ValidationError, marked: list[str]) -> str:
    place = join_pointer("", *error.absolute_path) + "/"
    # A sentence quotes what it is about, which may be what nobody is shown, or have it within.
    if any(place.startswith(f"{each}/") or f"{each}/".startswith(place) for each in marked):
        return f"is not what the schema asks for: {error.validator}"
    return error.message
