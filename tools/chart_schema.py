"""Generate the schema of the Helm chart's values from the comments in ``values.yaml``.

A comment that begins with ``@schema`` is JSON Schema, merged over what the key's default implies.
The lines above a key describe it. Objects refuse unknown keys unless their comment says otherwise.
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parents[1] / "deploy/k8s/tailrace"
_ANNOTATION: Final = "@schema "
_TYPES: Final = {bool: "boolean", int: "integer", str: "string", list: "array"}


def schema_of(text: str) -> dict[str, Any]:
    """Return the JSON Schema of a commented values file.

    Raises:
        ValueError: A comment is not JSON, or a default has no type that the schema can state.
    """
    document = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(document, yaml.MappingNode):
        raise ValueError("the values are not a mapping")  # noqa: TRY004 - a defect of the file
    values = _object(document, text.splitlines())
    pool = dict(values["properties"]["workerDefaults"])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the Tailrace chart",
        # A pool is `workerDefaults` with any of its keys left out.
        "$defs": {"pool": {**pool, "description": "One pool of workers"}},
        **values,
        # Helm adds these two to the values of every chart.
        "properties": {"global": {}, **values["properties"]},
    }


def _object(node: yaml.MappingNode, lines: list[str]) -> dict[str, Any]:
    properties = {key.value: _property(key, value, lines) for key, value in node.value}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _property(key: yaml.Node, value: yaml.Node, lines: list[str]) -> dict[str, Any]:
    description, annotation = _comment(key.start_mark.line, lines)
    schema = _implied(value, annotation, lines)
    if description:
        schema = {"description": description, **schema}
    return {**schema, **annotation}


def _implied(value: yaml.Node, annotation: dict[str, Any], lines: list[str]) -> dict[str, Any]:
    if isinstance(value, yaml.MappingNode):
        return {"type": "object"} if "additionalProperties" in annotation else _object(value, lines)
    default = yaml.safe_load(yaml.serialize(value))
    if "enum" in annotation:
        return {}
    for kind, name in _TYPES.items():
        if isinstance(default, kind):
            return {"type": name}
    raise ValueError(f"line {value.start_mark.line + 1}: no type for {default!r}")


def _comment(line: int, lines: list[str]) -> tuple[str, dict[str, Any]]:
    """Return the description and the annotation in the comment lines above a key."""
    comments: list[str] = []
    while line and lines[line - 1].lstrip().startswith("#"):
        line -= 1
        comments.insert(0, lines[line].lstrip().removeprefix("#").strip())
    annotation: dict[str, Any] = {}
    for comment in comments:
        if comment.startswith(_ANNOTATION):
            annotation |= json.loads(comment.removeprefix(_ANNOTATION))
    return " ".join(each for each in comments if not each.startswith(_ANNOTATION)), annotation


def main() -> int:
    """Write the schema beside the values."""
    schema = schema_of((CHART / "values.yaml").read_text())
    (CHART / "values.schema.json").write_text(json.dumps(schema, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
