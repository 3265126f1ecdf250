"""JSON Schema (draft 2020-12) for the input of runs, and for the forms of steps that wait."""

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import jsonschema
import referencing
import referencing.exceptions
from jsonschema.protocols import Validator
from referencing.jsonschema import DRAFT202012

from tailrace_shared.workflow.pointer import join
from tailrace_shared.workflow.problems import Problem
from tailrace_shared.workflow.sensitive import schema_places

_MOST_VIOLATIONS: Final = 100

# A `$ref` to another document would make the server fetch it; this registry fetches nothing.
_NO_RETRIEVAL: Final[referencing.Registry[Any]] = referencing.Registry()
_errors: Final = jsonschema.Draft202012Validator(
    jsonschema.Draft202012Validator.META_SCHEMA,
    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
).iter_errors


def schema_problems(schema: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Return why ``schema`` is no JSON Schema that can be used here, each with its place."""
    try:
        # Several parts of the metaschema may say the same of one place.
        found = dict.fromkeys((tuple(error.path), error.message) for error in _errors(schema))
        return list(found) or [((), detail) for detail in _broken_references(schema)]
    except RecursionError:
        return [((), "nested too deep")]
    except ValueError as error:
        return [((), f"it has an $id that is no URI: {error}")]


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
    return jsonschema.Draft202012Validator(
        schema,
        registry=_NO_RETRIEVAL,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )


def violations(validator: Validator, field: str, value: Any) -> list[Problem]:
    """Return where ``value``, called ``field`` in its document, is not what a schema asks for."""
    marked = schema_places(validator.schema, value)
    try:
        return [
            Problem(join("", field, *error.absolute_path), _sentence(error, marked)[:1000])
            for error in islice(validator.iter_errors(value), _MOST_VIOLATIONS)
        ]
    except referencing.exceptions.Unresolvable as error:
        return [Problem(f"/{field}", f"the workflow's schema refers to what is not there: {error}")]
    except RecursionError:
        return [Problem(f"/{field}", "the workflow's schema refers to itself without end")]


def _sentence(error: jsonschema.ValidationError, marked: list[str]) -> str:
    place = join("", *error.absolute_path) + "/"
    # A sentence quotes what it is about, which may be what nobody is shown, or have it within.
    if any(place.startswith(f"{each}/") or f"{each}/".startswith(place) for each in marked):
        return f"is not what the schema asks for: {error.validator}"
    return error.message
