"""The node type ``transform``: compute a JSON value with expressions."""

from typing import Any

from tailrace_worker.nodes.node import node


@node("transform", instant=True)
def transform(value: Any) -> Any:
    """Return ``value``; the engine has evaluated its expressions already."""
    return value
