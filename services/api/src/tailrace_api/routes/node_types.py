"""The route that lists the types of nodes."""

from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace_api.web.json_response import json_response
from tailrace_api.web.operation import Answer, operation
from tailrace_shared.stores.node_type_store import NodeTypeStore
from tailrace_shared.workflow.editor_schema import parameters_schema


class NodeTypeDocument(msgspec.Struct):
    """A type of nodes.

    Attributes:
        type: The `type` of a node.
        summary: What it does, in one sentence.
        parameters: The JSON Schema of a node's `with`.
        output: The JSON Schema of the output; null if it is unknown.
    """

    type: str
    summary: str
    parameters: dict[str, Any]
    output: dict[str, Any] | None


class NodeTypeList(msgspec.Struct):
    """All types of nodes, by name."""

    node_types: list[NodeTypeDocument]


@dataclass(frozen=True, slots=True)
class NodeTypeRoutes:
    """The route ``/api/v1/node-types``."""

    node_types: NodeTypeStore

    @operation(
        "GET",
        "/api/v1/node-types",
        scope="workflows:read",
        answers={200: Answer(NodeTypeList, "The built-in types and those of workers.")},
    )
    async def list_all(self, _request: Request) -> Response:
        """List the types of nodes: the built-in ones, and those that workers have announced."""
        known = await self.node_types.all()
        documents = [
            NodeTypeDocument(name, each.summary, parameters_schema(each), each.output)
            for name, each in sorted(known.items())
        ]
        return json_response(NodeTypeList(documents))
