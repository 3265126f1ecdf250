"""Example curl commands for the documentation page. Pure."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

_BASE: Final = "http://127.0.0.1:8080"
_MAX_DEPTH: Final = 4
_BY_TYPE: Final[Mapping[str, Any]] = {
    "string": "…",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "object": {},
    "null": None,
}

_Json = Mapping[str, Any]


def curl_of(method: str, path: str, operation: _Json, components: _Json) -> str:
    """Return a curl command that calls an operation.

    Args:
        path: The path, with parameters in braces.
    """
    streams = any(
        "text/event-stream" in answer.get("content", {})
        for answer in operation["responses"].values()
    )
    words = ["curl"] + (["-N"] if streams else [])
    if method != "get":
        words += ["-X", method.upper()]
    words.append(_BASE + path.replace("{", "").replace("}", "").replace("_id", ""))
    if operation["security"]:
        words += ["-H", "Authorization: Bearer $TAILRACE_TOKEN"]
    if "requestBody" in operation:
        (content,) = operation["requestBody"]["content"].values()
        body = example_of(content["schema"], components)
        words += ["-H", "Content-Type: application/json"]
        words += ["-d", json.dumps(body, ensure_ascii=False)]
    return " ".join(_quoted(word) for word in words)


def example_of(schema: _Json, components: _Json, depth: int = 0) -> Any:  # noqa: PLR0911 - a case each
    """Return a small example of a schema with its required properties.

    Args:
        schema: The schema. The example matches its shape, but not its patterns.
    """
    match schema:
        case {"default": default} if default not in (None, [], {}):
            return default
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return example_of(components["schemas"][name], components, depth)
        case {"enum": [first, *_]} | {"const": first}:
            return first
        case {"anyOf": [first, *_]}:
            return example_of(first, components, depth)
        case {"type": "object", "properties": properties} if depth < _MAX_DEPTH:
            shown = schema.get("required") or list(properties)[:3]
            return {name: example_of(properties[name], components, depth + 1) for name in shown}
        case {"type": "object", "additionalProperties": dict() as values} if values:
            return {"a": example_of(values, components, depth + 1)}
        case {"type": str() as kind}:
            return _BY_TYPE[kind]
    return {}


def _quoted(word: str) -> str:
    # Double quotes let the shell expand the token.
    return f'"{word}"' if "$" in word else shlex.quote(word)
