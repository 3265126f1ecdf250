"""The JSON Schema of definitions accepts what the product accepts, and describes every field."""

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from tailrace_shared.workflow.editor_schema import definition_schema
from tailrace_shared.workflow.node_types import SHIPPED, NodeType, Parameter

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*/workflow.yaml"))
POST = NodeType("post", {"to": Parameter("text", required=True)}, summary="Send a letter.")


@pytest.fixture
def schema() -> dict[str, Any]:
    return definition_schema({**SHIPPED, "post": POST})


def test_it_is_a_valid_schema(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_the_examples_are_valid(path: Path) -> None:
    """Node types of the example itself are known, with parameters of any name."""
    document = yaml.safe_load(path.read_text())
    own = {node["type"]: NodeType(node["type"], open=True) for node in document["nodes"].values()}
    jsonschema_rs.validate(definition_schema({**own, **SHIPPED}), document)


def test_every_field_is_described(schema: dict[str, Any]) -> None:
    """Editors show the description of the field under the cursor."""
    fields = {
        f"{name}.{field}": shape
        for name, definition in schema["$defs"].items()
        for field, shape in definition["properties"].items()
    }
    assert {field for field, shape in fields.items() if not shape.get("description")} == set()
    assert fields["Node.with"]["description"].startswith("parameters of the node type")
    assert "Attributes" not in schema["$defs"]["Definition"]["description"]


@pytest.mark.parametrize(
    ("node", "place"),
    [
        ({"type": "pst"}, ["nodes", "a", "type"]),
        ({"type": "post", "with": {}}, ["nodes", "a", "with"]),
        ({"type": "post", "with": {"to": 1}}, ["nodes", "a", "with", "to"]),
        ({"type": "post", "with": {"to": "x", "from": "y"}}, ["nodes", "a", "with"]),
        ({"type": "post", "with": {"to": "x"}, "timeout": "soon"}, ["nodes", "a", "timeout"]),
    ],
)
def test_a_mistake_is_found_at_its_place(
    schema: dict[str, Any], node: dict[str, Any], place: list[str]
) -> None:
    errors = jsonschema_rs.validator_for(schema).iter_errors({"id": "w", "nodes": {"a": node}})
    assert place in [error.instance_path for error in errors]


def test_parameters_may_be_expressions(schema: dict[str, Any]) -> None:
    node = {"type": "post", "with": {"to": "${input.address}"}}
    jsonschema_rs.validate(schema, {"id": "w", "nodes": {"a": node}})
