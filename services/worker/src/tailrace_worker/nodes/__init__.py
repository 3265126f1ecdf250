"""Node types: the ``@node`` decorator for users' functions, and the node types that ship."""

from tailrace_worker.nodes.node import NodeContext, NodeFailedError, Wait, node

__all__ = ["NodeContext", "NodeFailedError", "Wait", "node"]
