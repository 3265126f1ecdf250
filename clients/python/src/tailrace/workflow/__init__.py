"""Write workflows as Python functions, which compile to the same definitions as YAML.

Calling a node function inside a function with ``@workflow`` adds a step. Its outputs, and the input
of the workflow, are expressions. See ``docs/workflows-in-python.md``.
"""

from tailrace.workflow.builder import Workflow, finally_group, on_failure, workflow
from tailrace.workflow.expressions import Expression, cel
from tailrace.workflow.steps import (
    Retry,
    approval,
    child,
    delay,
    emit,
    event,
    execution,
    fail,
    http,
    log,
    map_each,
    options,
    secrets,
    step,
    transform,
    wait_for,
)

__all__ = [
    "Expression",
    "Retry",
    "Workflow",
    "approval",
    "cel",
    "child",
    "delay",
    "emit",
    "event",
    "execution",
    "fail",
    "finally_group",
    "http",
    "log",
    "map_each",
    "on_failure",
    "options",
    "secrets",
    "step",
    "transform",
    "wait_for",
    "workflow",
]
