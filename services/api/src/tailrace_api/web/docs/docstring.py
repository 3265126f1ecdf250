"""What docstrings say of structs, as their JSON Schemas say it. Pure.

msgspec puts a struct's whole docstring into its schema; readers of that want the attributes beside
the fields that they describe.
"""

import inspect
import re
from typing import Any, Final

_ATTRIBUTES: Final = "\n\nAttributes:\n"
_ATTRIBUTE: Final = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
_REFERENCE: Final = re.compile(r":\w+:`([^`]+)`")


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a struct's schema, its attributes' descriptions moved to its properties."""
    text, _, attributes = inspect.cleandoc(schema.get("description", "")).partition(_ATTRIBUTES)
    known = {name: _plain(said) for name, said in _ATTRIBUTE.findall(attributes)}
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
