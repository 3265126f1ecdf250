"""Render one step of an execution with its input, attempts and log lines. Pure.

The input is rendered again, from the state of the execution when the last attempt began. All that
the expressions may name is masked before: sensitive values, and secrets as a whole. So an
expression that computes with a masked value may fail; then the reason is shown instead.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from tailrace_api.documents.run_document import StepDocument
from tailrace_shared.errors import ExpressionError
from tailrace_shared.execution.evaluation import render
from tailrace_shared.execution.events import (
    Event,
    StepCompleted,
    StepEvent,
    StepFailed,
    StepLogged,
    StepRetrying,
    StepStarted,
)
from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.redact.masking import MASK, mask_value
from tailrace_shared.workflow.definition import Node
from tailrace_shared.workflow.expressions.budget import Budget
from tailrace_shared.workflow.expressions.template import Template, compile_template

MAX_LINES: Final = 1000
"""The number of log lines in a document; the newest ones."""


class StepAttempt(msgspec.Struct):
    """An attempt of a step.

    Attributes:
        ended_at: When it ended; null while it runs or waits.
        cause: Why it ended without success: ``error``, ``crash`` or ``handover``.
        error: The message of the error.
        error_detail: The traceback of the error, or the response that a server sent with it.
        worker: The id of the worker that recorded its beginning; empty if unknown.
    """

    attempt: int
    started_at: str
    ended_at: str | None = None
    cause: str | None = None
    error: str | None = None
    error_detail: str | None = None
    worker: str = ""


class StepLine(msgspec.Struct):
    """A log line of a step."""

    timestamp: str
    level: str
    message: str
    fields: dict[str, Any]


class StepDetails(StepDocument, kw_only=True):
    """One step of a run, with its input, attempts and log lines.

    Attributes:
        input: The parameters of the last attempt, with secrets and sensitive values masked; null
            before the first, and if they cannot be shown.
        input_problem: Why the input cannot be shown; otherwise absent.
        attempts: The attempts, oldest first.
        lines: The newest log lines, oldest first.
    """

    input: Any
    attempts: list[StepAttempt]
    lines: list[StepLine]
    input_problem: str | msgspec.UnsetType = msgspec.UNSET


class StepInput(msgspec.Struct):
    """The input of a step.

    Attributes:
        input: The parameters of the last attempt, with secrets and sensitive values masked; null
            before the first, and if they cannot be shown.
        input_problem: Why the input cannot be shown; otherwise absent.
    """

    input: Any
    input_problem: str | msgspec.UnsetType = msgspec.UNSET


@dataclass(slots=True)
class StepHistory:
    """Collects what happened to a step, event by event.

    Attributes:
        step_id: the step.
        state: the execution, after the events so far.
        begin: the execution when the last attempt began; None before the first.
    """

    step_id: str
    state: ExecutionState = field(default_factory=ExecutionState)
    begin: ExecutionState | None = None
    attempts: list[StepAttempt] = field(default_factory=list)
    lines: list[StepLine] = field(default_factory=list)

    def take(self, events: Iterable[Event], writer: str) -> None:
        """Apply the events of a commit.

        Args:
            events: the events.
            writer: the worker that appended them; empty for the API.
        """
        for event in events:
            if isinstance(event, StepEvent) and event.data.node_id == self.step_id:
                self._note(event, writer)
            self.state.apply(event)

    def _note(self, event: StepEvent, writer: str) -> None:
        match event:
            case StepStarted():
                steps = {name: copy.copy(step) for name, step in self.state.steps.items()}
                self.begin = msgspec.structs.replace(self.state, steps=steps)
                started = StepAttempt(event.data.attempt, event.data.started_at, worker=writer)
                self.attempts.append(started)
            case StepLogged():
                shown = mask_value(event.data.fields, event.data.sensitive)
                fields = shown if isinstance(shown, dict) else {MASK: MASK}
                line = StepLine(event.timestamp, event.data.level, event.data.message, fields)
                self.lines = [*self.lines[-MAX_LINES + 1 :], line]
            case StepCompleted() | StepFailed() | StepRetrying() if self.attempts:
                self._end(self.attempts[-1], event)
            case _:
                pass

    @staticmethod
    def _end(attempt: StepAttempt, event: StepCompleted | StepFailed | StepRetrying) -> None:
        attempt.ended_at = event.timestamp
        if not isinstance(event, StepCompleted):
            attempt.cause = event.data.cause if isinstance(event, StepRetrying) else "error"
            attempt.error = event.data.error
            attempt.error_detail = event.data.error_detail or None


def template_of(node: Node, step_id: str) -> Template:
    """Return the template of a step's parameters: those of a map's items are in ``do``."""
    if split_item_id(step_id)[1] is None:
        return compile_template(node.parameters)
    return compile_template(node.parameters.get("do", {}).get("with", {}))


def wanted_by(template: Template, state: ExecutionState) -> list[str]:
    """Return the steps whose outputs a template names and that are stored elsewhere."""
    nodes: set[str] = set()
    for _path, expression in template.expressions:
        nodes |= state.steps.keys() if expression.nodes is None else expression.nodes
    found = (state.steps.get(node) for node in sorted(nodes))
    return [step.node_id for step in found if step is not None and step.output is msgspec.UNSET]


def rendered_input(template: Template, begin: ExecutionState, step_id: str) -> Any:
    """Return the parameters of a step, masked.

    Args:
        template: the template of its parameters.
        begin: the execution when the attempt began; its outputs are fetched. It is changed.
        step_id: the step.

    Raises:
        ExpressionError: an expression failed, for example because it computes with a masked value.
    """
    names: dict[str, Any] = {
        "secrets": {
            expression.secret: MASK
            for _path, expression in template.expressions
            if expression.secret is not None
        }
    }
    node_id, index = split_item_id(step_id)
    if index is not None and (parent := begin.steps.get(node_id)) is not None:
        items = mask_value(parent.items, parent.items_sensitive)
        names |= {"item": _item(items, index), "index": index}
    begin.input = mask_value(begin.input, begin.sensitive)
    for step in begin.steps.values():
        if step.sensitive and step.output is not msgspec.UNSET:
            step.output = mask_value(step.output, step.sensitive)
    return render(template, begin, names, Budget())


def _item(items: Any, index: int) -> Any:
    return items[index] if isinstance(items, Sequence) and not isinstance(items, str) else MASK


def step_details(
    step: StepDocument, history: StepHistory, nodes: Mapping[str, Node], problem: str = ""
) -> StepDetails:
    """Return the document of a step.

    Args:
        step: the step, as the document of its run shows it.
        history: what happened to it.
        nodes: the nodes of the definition; empty if that has been evicted.
        problem: why the input cannot be rendered; empty if it can.
    """
    shown, node = None, nodes.get(split_item_id(step.node_id)[0])
    if history.begin is not None and not problem:
        if node is None:
            problem = "this version of the workflow is not stored any more"
        else:
            try:
                shown = rendered_input(template_of(node, step.node_id), history.begin, step.node_id)
            except ExpressionError as error:
                problem = str(error)
    return StepDetails(
        **msgspec.structs.asdict(step),
        input=shown,
        input_problem=problem or msgspec.UNSET,
        attempts=history.attempts,
        lines=history.lines,
    )
