"""A definition made ready to run: sorted, with its expressions compiled when first needed."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from tailrace_shared.execution.state import ExecutionState
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


def evaluate(expression: Expression, state: ExecutionState) -> Any:
    """Evaluate an expression on an execution.

    Raises:
        ExpressionError: the values at hand do not fit the expression.
    """
    return expression.evaluate(_context([expression], state))


def render(template: Template, state: ExecutionState) -> Any:
    """Evaluate the expressions of a template on an execution.

    Raises:
        ExpressionError: the values at hand do not fit one of them.
    """
    if not template.expressions:
        return template.value
    return template.render(_context((found for _path, found in template.expressions), state))


def _context(expressions: Iterable[Expression], state: ExecutionState) -> Mapping[str, Any]:
    names: set[str] = set()
    nodes: set[str] = set()
    for expression in expressions:
        names |= expression.names
        nodes |= state.steps.keys() if expression.nodes is None else expression.nodes
    context: dict[str, Any] = {}
    if "input" in names:
        context["input"] = state.input
    if "execution" in names:
        context["execution"] = {
            "id": state.execution_id,
            "workflow": state.workflow_id,
            "started_at": state.started_at,
        }
    if "nodes" in names:
        context["nodes"] = {node_id: _outcome(node_id, state) for node_id in nodes}
    return context


def _outcome(node_id: str, state: ExecutionState) -> dict[str, Any]:
    step = state.steps.get(node_id)
    if step is None:
        return {"output": None, "status": "pending", "error": None}
    return {"output": step.output, "status": step.status, "error": step.error}
