"""Descriptions of struct fields, moved from docstrings to the properties of JSON Schemas. Pure.

msgspec copies the whole docstring of a struct into its schema; editors and readers of the API
description need each attribute's text at its property.
"""

import inspect
import re
from typing import Any, Final

_ATTRIBUTES: Final = "\n\nAttributes:\n"
_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_ENCODED_NAME: Final = re.compile(r" \(``(\w+)`` in JSON\)")
_REFERENCE: Final = re.compile(r":\w+:`([^`]+)`")


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a struct's schema with attribute descriptions at the properties.

    The description of an attribute that has another name in JSON ends in "(``name`` in JSON)".
    """
    text, _, attributes = inspect.cleandoc(schema.get("description", "")).partition(_ATTRIBUTES)
    known: dict[str, str] = {}
    for name, words in _ATTRIBUTE.findall(attributes):
        known[name] = _plain(_ENCODED_NAME.sub("", words))
        if encoded := _ENCODED_NAME.search(words):
            known[encoded[1]] = known[name]
    properties = {
        name: _with(field, known.get(name)) for name, field in schema.get("properties", {}).items()
    }
    return {
        **schema,
        **({"description": _plain(text)} if text else {}),
        **({"properties": properties} if properties else {}),
    }


def _with(field: dict[str, Any], description: str | None) -> dict[str, Any]:
    return {**field, "description": description} if description else field


def _plain(text: str) -> str:
    return " ".join(_REFERENCE.sub(r"`\1`", text).replace("``", "`").split())
