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
    groups = [fields[group]["nodes"] for group in ("on_failure", "finally") if group in fields]
    every = [node for part in (complete, *groups) for node in part.values()]
    types = [node["type"] for node in every]
    types += [node["with"]["do"]["type"] for node in every if node["type"] == "map"]
    for name in types:
        known.setdefault(name, NodeType(name, open=True, secrets=True))
    checked = validate({"id": "test", "nodes": complete, **fields}, known)
    assert checked.definition is not None, checked.problems
    return checked.definition
