"""``transform``: any JSON, with expressions inside."""

from typing import Any

from tailrace_worker.nodes.node import node


@node("transform", instant=True)
def transform(value: Any) -> Any:
    """Return ``value``, whose expressions have been evaluated already."""
    return value
