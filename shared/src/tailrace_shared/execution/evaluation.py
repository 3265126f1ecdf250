"""Evaluate expressions and templates on an execution.

The evaluator copies its context, so the context contains only what the expressions name.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.expressions.budget import Budget
from tailrace_shared.workflow.expressions.expression import Expression
from tailrace_shared.workflow.expressions.template import Template, compile_template
from tailrace_shared.workflow.graph import graph_of

_NO_NAMES: Final[Mapping[str, Any]] = {}


def evaluate(
    expression: Expression,
    state: ExecutionState,
    names: Mapping[str, Any] = _NO_NAMES,
    budget: Budget | None = None,
) -> Any:
    """Evaluate an expression on an execution.

    Args:
        names: additional variables: ``event``, ``item``, ``index``.
        budget: what the evaluation may cost; None for one of the default size.

    Raises:
        ExpressionError: the evaluation failed.
    """
    return expression.evaluate(context_of([expression], state, names), budget)


def render(
    template: Template,
    state: ExecutionState,
    names: Mapping[str, Any] = _NO_NAMES,
    budget: Budget | None = None,
) -> Any:
    """Render a template on an execution; see :func:`evaluate`."""
    if not template.expressions:
        return template.value
    return template.render(
        context_of((expression for _path, expression in template.expressions), state, names), budget
    )


def context_of(
    expressions: Iterable[Expression], state: ExecutionState, names: Mapping[str, Any] = _NO_NAMES
) -> dict[str, Any]:
    """Return the context that the expressions need, and nothing else.

    Raises:
        ExpressionError: a referenced output has not been fetched.
    """
    names_used: set[str] = set()
    nodes: set[str] = set()
    for expression in expressions:
        names_used |= expression.names
        nodes |= state.steps.keys() if expression.nodes is None else expression.nodes
    context = {name: value for name, value in names.items() if name in names_used}
    if "input" in names_used:
        context["input"] = state.input
    if "execution" in names_used:
        context["execution"] = {
            "id": state.execution_id,
            "workflow": state.workflow_id,
            "started_at": state.started_at,
            "scheduled_at": state.scheduled_at,
        }
    if "nodes" in names_used:
        context["nodes"] = {node_id: _outcome(node_id, state) for node_id in nodes}
    return context


def final_output(state: ExecutionState, definition: Definition) -> Any:
    """Return the output of a completed execution: its rendered template, or its leaves' outputs.

    It has no budget: a worker has rendered the same template within one.

    Raises:
        ExpressionError: the template failed, or needs an output that has not been fetched.
    """
    if definition.output is not None:
        return render(compile_template(definition.output), state, budget=Budget(math.inf))
    leaves = graph_of(definition).leaves
    return {node: state.steps[node].output for node in leaves if node in state.steps}


def _outcome(node_id: str, state: ExecutionState) -> dict[str, Any]:
    step = state.steps.get(node_id)
    if step is None:
        # A node that had not begun when the groups after the main part did never will.
        status = "pending" if state.finishing is None else "cancelled"
        return {"output": None, "status": status, "error": None}
    if step.output is msgspec.UNSET:
        raise ExpressionError(f"the output of {node_id!r} has not been fetched")
    return {"output": step.output, "status": step.status, "error": step.error}
