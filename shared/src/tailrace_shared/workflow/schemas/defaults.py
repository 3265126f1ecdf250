"""Fill the defaults of a JSON Schema into a value.

A property that is missing gets the ``default`` of its schema in ``properties``. The search follows
``properties``, ``items``, ``prefixItems``, ``allOf`` and references within the schema. It does not
follow conditions and alternatives, where a default may belong to the branch that does not apply.
"""

from typing import Any, Final

import msgspec
from jsonschema.protocols import Validator

from tailrace_shared.json_pointer import split_pointer
from tailrace_shared.workflow.schemas.schema_validator import check_time
from tailrace_shared.workflow.sensitive_fields import subschemas

_MAX_DEPTH: Final = 200


class TooLargeError(Exception):
    """The defaults add too many bytes."""


def has_defaults(schema: Any) -> bool:
    """Tell whether a schema has defaults anywhere."""
    return any("default" in each for _path, each in subschemas(schema))


class DefaultFiller:
    """Fills the defaults of one schema into values, within the time limit of this thread's check.

    Args:
        limit: maximum size of all inserted defaults in bytes of JSON.
    """

    def __init__(self, validator: Validator, limit: int) -> None:
        self._validator = validator
        self._left = limit
        # By the identity of its schema: the size of a default; None if its schema refuses it.
        self._sizes: dict[int, int | None] = {}

    def fill(self, value: Any) -> Any:
        """Return the value with its defaults; the argument is not changed.

        Raises:
            TooLargeError: the defaults are larger than the limit.
            TooSlowError: the search takes too long.
        """
        return self._fill(self._validator.schema, value, 0)

    def _fill(self, schema: Any, value: Any, depth: int) -> Any:
        check_time()
        # References may lead back to themselves.
        if not isinstance(schema, dict) or depth > _MAX_DEPTH:
            return value
        if not isinstance(value, (dict, list)):
            return value
        if "$ref" in schema:
            value = self._fill(self._resolve(schema["$ref"]), value, depth + 1)
        for each in _list(schema.get("allOf")):
            value = self._fill(each, value, depth + 1)
        if isinstance(value, dict):
            return self._fill_object(schema, value, depth)
        prefix = _list(schema.get("prefixItems"))[: len(value)]
        filled = [
            self._fill(each, item, depth + 1) for each, item in zip(prefix, value, strict=False)
        ]
        rest = schema.get("items")
        return filled + [self._fill(rest, item, depth + 1) for item in value[len(prefix) :]]

    def _fill_object(self, schema: dict[str, Any], value: dict[str, Any], depth: int) -> Any:
        properties = schema.get("properties")
        if not isinstance(properties, dict):
            return value
        filled = dict(value)
        for name, each in properties.items():
            if name in filled:
                filled[name] = self._fill(each, filled[name], depth + 1)
            elif isinstance(each, dict) and "default" in each and self._insert(each):
                filled[name] = each["default"]
        return filled

    def _insert(self, schema: dict[str, Any]) -> bool:
        check_time()
        key = id(schema)
        if key not in self._sizes:
            validator = self._validator.evolve(schema=schema)
            is_valid = next(validator.iter_errors(schema["default"]), None) is None
            self._sizes[key] = len(msgspec.json.encode(schema["default"])) if is_valid else None
        size = self._sizes[key]
        if size is None:
            return False
        self._left -= size
        if self._left < 0:
            raise TooLargeError
        return True

    def _resolve(self, reference: Any) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#"):
            return None
        target: Any = self._validator.schema
        try:
            for token in split_pointer(reference[1:]):
                target = target[token]
        except (LookupError, TypeError, ValueError):
            return None
        return target


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
