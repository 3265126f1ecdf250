"""Node types: what users write (``from tailrace_worker.nodes import node``), and what ships."""

from tailrace_worker.nodes.node import NodeContext, NodeFailedError, Wait, node

__all__ = ["NodeContext", "NodeFailedError", "Wait", "node"]
