"""JSON Schema (draft 2020-12) for the input of runs."""

from typing import Any, Final

import jsonschema
import referencing
from jsonschema.protocols import Validator

# A `$ref` to another document would make the server fetch it; this registry fetches nothing.
_NO_RETRIEVAL: Final[referencing.Registry[Any]] = referencing.Registry()


def check_schema(schema: Any) -> None:
    """Check that ``schema`` is a JSON Schema.

    Raises:
        jsonschema.exceptions.SchemaError: it is not.
    """
    jsonschema.Draft202012Validator.check_schema(schema)


def compile_schema(schema: Any) -> Validator:
    """Return a validator for ``schema``, which must be one that :func:`check_schema` accepts."""
    return jsonschema.Draft202012Validator(
        schema,
        registry=_NO_RETRIEVAL,
        format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
    )
