"""Validate JSON Schemas (draft 2020-12) of inputs and forms, and values against them."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple

import jsonschema
import referencing
import referencing.exceptions
from jsonschema.protocols import Validator
from referencing.jsonschema import DRAFT202012

from tailrace_shared.json_pointer import join_pointer
from tailrace_shared.workflow.patterns import PatternError
from tailrace_shared.workflow.problem_report import Problem, nearest
from tailrace_shared.workflow.schemas import formats
from tailrace_shared.workflow.schemas.defaults import DefaultFiller, TooLargeError
from tailrace_shared.workflow.schemas.schema_validator import (
    MAX_SECONDS,
    BoundedValidator,
    TooSlowError,
    begin,
    matches,
)
from tailrace_shared.workflow.sensitive_fields import sensitive_pointers, subschemas

_MAX_VIOLATIONS: Final = 100
TOO_SLOW: Final = "the schema takes too long to check; simplify it"
"""The detail of a problem: the check was not completed."""

_BY_PATTERN: Final = "patternProperties"

# A `$ref` to another document would make the server fetch it (SSRF). This registry fetches nothing.
_NO_RETRIEVAL: Final[referencing.Registry[Any]] = referencing.Registry()
# Without formats: the metaschema's `regex` means Python's, which lacks `\p{L}`.
_errors: Final = BoundedValidator(jsonschema.Draft202012Validator.META_SCHEMA).iter_errors


def schema_problems(schema: Any) -> list[tuple[tuple[str | int, ...], str]]:
    begin(MAX_SECONDS)
    try:
        # Several parts of the metaschema may report the same problem.
        found = dict.fromkeys((tuple(error.path), error.message) for error in _errors(schema))
        return (
            list(found)
            or [((), detail) for detail in _broken_references(schema)]
            or list(_unusable(schema))
        )
    except TooSlowError:
        return [((), TOO_SLOW)]
    except RecursionError:
        return [((), "nested too deeply")]
    except ValueError as error:
        return [((), f"its $id is not a URI: {error}")]


def _unusable(schema: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    keywords: set[str] = set()
    defaults: list[tuple[tuple[str | int, ...], dict[str, Any]]] = []
    for path, each in subschemas(schema):
        keywords.update(each)
        if "default" in each:
            defaults.append(((*path, "default"), each))
        if "format" in each and each["format"] not in formats.FORMATS:
            near = nearest(each["format"], formats.FORMATS)
            yield (
                (*path, "format"),
                f"the format {each['format']!r} is not enforced{near or '; use a pattern instead'}",
            )
        patterns = {(*path, "pattern"): each["pattern"]} if "pattern" in each else {}
        patterns |= {(*path, _BY_PATTERN, key): key for key in each.get(_BY_PATTERN, ())}
        for place, pattern in patterns.items():
            try:
                matches(pattern, "")
            except PatternError as error:
                yield place, f"the pattern cannot be used: {error}"
    if keywords >= {_BY_PATTERN, "unevaluatedProperties"}:
        # The library would match these patterns itself, without a time limit.
        yield (), f"unevaluatedProperties cannot be used together with {_BY_PATTERN}"
        return
    validator = compile_schema(schema)
    for place, each in defaults:
        try:
            found = next(validator.evolve(schema=each).iter_errors(each["default"]), None)
        except PatternError:
            continue  # Reported above.
        if found is not None:
            yield place, f"the default is not valid: {found.message[:200]}"


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
                # A pointer into an array or a number raises other errors.
                except (referencing.exceptions.Unresolvable, ValueError, TypeError):
                    yield f"{keyword} {reference!r} is not within the schema"
    for reference, contents in targets:
        # A reference may lead to a value that is not a schema, such as that of `const`.
        if id(contents) not in checked and any(_errors(contents)):
            yield f"{reference!r} does not refer to a schema"
        checked.add(id(contents))


def compile_schema(schema: Any) -> Validator:
    """Return a validator for a schema without :func:`schema_problems`."""
    validator: Validator = BoundedValidator(
        schema,
        registry=_NO_RETRIEVAL,
        format_checker=formats.CHECKER,
    )
    return validator


class Checked(NamedTuple):
    """A value with the defaults of its schema, and where it violates the schema."""

    value: Any
    problems: list[Problem]


def check_value(
    validator: Validator, field: str, value: Any, limit: int, seconds: float = MAX_SECONDS
) -> Checked:
    """Fill the defaults of a schema into a value, and validate the result.

    Args:
        field: the name of the value in its document.
        limit: maximum size of the inserted defaults in bytes of JSON.
        seconds: time limit of each of the two; a value that takes longer is refused.
    """
    begin(seconds)
    try:
        value = DefaultFiller(validator, limit).fill(value)
    except TooLargeError:
        detail = f"the defaults of its schema add more than {limit} bytes"
        return Checked(value, [Problem(f"/{field}", detail)])
    except (TooSlowError, RecursionError):
        return Checked(value, [Problem(f"/{field}", TOO_SLOW)])
    except (PatternError, referencing.exceptions.Unresolvable):
        pass  # The validation reports it with its place.
    return Checked(value, violations(validator, field, value, seconds))


def violations(
    validator: Validator, field: str, value: Any, seconds: float = MAX_SECONDS
) -> list[Problem]:
    """Return the violations of a schema in ``value``.

    Args:
        field: the name of the value in its document.
        seconds: time limit of the check; a value that takes longer is refused.
    """
    begin(seconds)
    marked = sensitive_pointers(validator.schema, value)
    try:
        return [
            Problem(join_pointer("", field, *error.absolute_path), _sentence(error, marked)[:1000])
            for error in islice(validator.iter_errors(value), _MAX_VIOLATIONS)
        ]
    except referencing.exceptions.Unresolvable as error:
        return [
            Problem(
                f"/{field}", f"a reference in the workflow's schema cannot be resolved: {error}"
            )
        ]
    except TooSlowError:
        return [Problem(f"/{field}", TOO_SLOW)]
    except PatternError as error:
        return [Problem(f"/{field}", f"a pattern in the workflow's schema is invalid: {error}")]
    except RecursionError:
        return [Problem(f"/{field}", "the workflow's schema has an endless reference")]


def _sentence(error: jsonschema.ValidationError, marked: list[str]) -> str:
    place = join_pointer("", *error.absolute_path) + "/"
    # The message of the library quotes the value, which may be sensitive or contain such values.
    if any(place.startswith(f"{each}/") or f"{each}/".startswith(place) for each in marked):
        return f"violates the schema: {error.validator}"
    return error.message
