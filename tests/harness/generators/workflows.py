"""Short notation of definitions for tests."""

from typing import Any

from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.node_types import SHIPPED, NodeType
from tailrace_shared.workflow.validation import validate


def definition(nodes: dict[str, dict[str, Any]], **fields: Any) -> Definition:
    """Return a valid definition.

    A node without a type is an empty ``simulate``. A type that is not built in accepts any
    parameters.
    """
    complete = {node_id: {"type": "simulate", **node} for node_id, node in nodes.items()}
    known = {**SHIPPED}
    types = [node["type"] for node in complete.values()]
    types += [node["with"]["do"]["type"] for node in complete.values() if node["type"] == "map"]
    for name in types:
        known.setdefault(name, NodeType(name, open=True, secrets=True))
    checked = validate({"id": "test", "nodes": complete, **fields}, known)
    assert checked.definition is not None, checked.problems
    return checked.definition
