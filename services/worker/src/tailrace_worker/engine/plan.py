"""A definition made ready to run: sorted, with its expressions compiled when first needed."""

from functools import cached_property

from tailrace_shared.workflow.definition import Definition, Node
from tailrace_shared.workflow.expressions import (
    Expression,
    Template,
    compile_expression,
    compile_template,
)
from tailrace_shared.workflow.graph import Graph, graph_of


class PlannedNode:
    """One node of a plan."""

    def __init__(self, node_id: str, node: Node) -> None:
        self.id = node_id
        self.node = node

    @cached_property
    def when(self) -> Expression | None:
        """The condition, compiled."""
        return None if self.node.when is None else compile_expression(self.node.when)

    @cached_property
    def parameters(self) -> Template:
        """What the node type takes, compiled."""
        return compile_template(self.node.parameters)


class Plan:
    """One version of a workflow, shared by all executions that this worker drives with it."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.graph: Graph = graph_of(definition)
        self.nodes = {
            node_id: PlannedNode(node_id, node) for node_id, node in definition.nodes.items()
        }

    @cached_property
    def output(self) -> Template | None:
        """The template of the run's output, compiled; None for the default."""
        declared = self.definition.output
        return None if declared is None else compile_template(declared)
