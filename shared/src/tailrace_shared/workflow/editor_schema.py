"""The JSON Schema of definitions, with which editors complete and check them."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.node_types import NodeType, Parameter
from tailrace_shared.workflow.schemas.attribute_docs import described

_DURATION: Final = {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?(ms|s|m|h|d)\s*$"}
_EXPRESSION: Final = {"type": "string", "pattern": r"\$\{"}
_KINDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "duration": _DURATION,
    "timestamp": {"type": "string"},
    "id": {"type": "string"},
    "procedure": {"type": "string"},
    "procedures": {"type": "array", "items": {"type": "string"}},
    "schema": {"type": ["object", "boolean"]},
    "expression": {"type": "string"},
    "match": {"type": "string"},
    "headers": {"type": "object"},
    "query": {"type": "object"},
}


def definition_schema(node_types: Mapping[str, NodeType]) -> dict[str, Any]:
    """Return the schema of definitions that use these node types."""
    schema = msgspec.json.schema(Definition)
    definitions = {name: described(each) for name, each in schema.pop("$defs").items()}
    for name in ("Node", "ItemWork"):
        if name in definitions:
            _add_types(definitions[name], node_types)
    for name in ("Node", "ItemWork", "Definition", "Defaults"):
        properties = definitions.get(name, {}).get("properties", {})
        if "timeout" in properties:
            properties["timeout"]["anyOf"] = [_DURATION, {"type": "null"}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Tailrace workflow definition",
        **schema,
        "$defs": definitions,
    }


def _add_types(node: dict[str, Any], node_types: Mapping[str, NodeType]) -> None:
    node["properties"]["type"]["enum"] = sorted(node_types)
    node["allOf"] = [
        {
            "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
            "then": {"properties": {"with": parameters_schema(node_type)}},
        }
        for name, node_type in sorted(node_types.items())
    ]


def parameters_schema(node_type: NodeType) -> dict[str, Any]:
    """Return the schema of the parameters of a node type, which nodes have in ``with``."""
    parameters: dict[str, Any] = {
        "type": "object",
        "description": node_type.summary,
        "properties": {
            name: _parameter(parameter) for name, parameter in node_type.parameters.items()
        },
        "required": [name for name, each in node_type.parameters.items() if each.required],
    }
    if not node_type.open:
        parameters["additionalProperties"] = False
    return parameters


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = dict(parameter.schema or _KINDS.get(parameter.kind, {}))
    if parameter.choices:
        schema["enum"] = parameter.choices
    if parameter.kind in {"integer", "number"}:
        bounds = {"minimum": parameter.least, "maximum": parameter.most}
        schema |= {keyword: bound for keyword, bound in bounds.items() if bound is not None}
    if not schema or parameter.literal:
        return schema
    return {"anyOf": [schema, _EXPRESSION]}
