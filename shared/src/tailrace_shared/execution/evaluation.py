"""Expressions and templates, evaluated on an execution. Pure.

The evaluator copies the context that it is given, so it gets no more than what the expressions
name.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.expressions.expression import Expression
from tailrace_shared.workflow.expressions.template import Template, compile_template
from tailrace_shared.workflow.graph import graph_of

_NOTHING: Final[Mapping[str, Any]] = {}


def evaluate(
    expression: Expression, state: ExecutionState, names: Mapping[str, Any] = _NOTHING
) -> Any:
    """Evaluate an expression on an execution.

    Args:
        expression: what to evaluate.
        state: the execution.
        names: what else the expression may name: ``event``, ``item``, ``index``.

    Raises:
        ExpressionError: the values at hand do not fit the expression.
    """
    return expression.evaluate(context_of([expression], state, names))


def render(template: Template, state: ExecutionState, names: Mapping[str, Any] = _NOTHING) -> Any:
    """Evaluate the expressions of a template on an execution; as :func:`evaluate`."""
    if not template.expressions:
        return template.value
    return template.render(
        context_of((found for _path, found in template.expressions), state, names)
    )


def context_of(
    expressions: Iterable[Expression],
    state: ExecutionState,
    names: Mapping[str, Any] = _NOTHING,
) -> dict[str, Any]:
    """Return what the expressions name of an execution, and nothing else.

    Raises:
        ExpressionError: an output that they name has not been fetched.
    """
    wanted: set[str] = set()
    nodes: set[str] = set()
    for expression in expressions:
        wanted |= expression.names
        nodes |= state.steps.keys() if expression.nodes is None else expression.nodes
    context = {name: value for name, value in names.items() if name in wanted}
    if "input" in wanted:
        context["input"] = state.input
    if "execution" in wanted:
        context["execution"] = {
            "id": state.execution_id,
            "workflow": state.workflow_id,
            "started_at": state.started_at,
        }
    if "nodes" in wanted:
        context["nodes"] = {node_id: _outcome(node_id, state) for node_id in nodes}
    return context


def final_output(state: ExecutionState, definition: Definition) -> Any:
    """Return the output of a completed execution: what its template gives, or its leaves'.

    Raises:
        ExpressionError: the template does not fit, or needs an output that was not fetched.
    """
    if definition.output is not None:
        return render(compile_template(definition.output), state)
    leaves = graph_of(definition).leaves
    return {node: state.steps[node].output for node in leaves if node in state.steps}


def _outcome(node_id: str, state: ExecutionState) -> dict[str, Any]:
    step = state.steps.get(node_id)
    if step is None:
        return {"output": None, "status": "pending", "error": None}
    if step.output is msgspec.UNSET:
        raise ExpressionError(f"the output of {node_id!r} has not been fetched")
    return {"output": step.output, "status": step.status, "error": step.error}
