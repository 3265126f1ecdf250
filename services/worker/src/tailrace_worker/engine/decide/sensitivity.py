"""Mark the sensitive places of events before they are recorded. Pure.

A place of an event is marked for one of three reasons: the definition marks it, it was copied as a
whole from a marked place (``${input.card}`` as a whole parameter, an output within a list of
outputs), or its value is marked elsewhere. Texts have no places, so marked values are masked in
them.

An execution in which nothing is marked has no ``SensitivityMarks``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from tailrace_shared.execution.events import (
    CommandRequested,
    Event,
    ExecutionFailed,
    StepCompleted,
    StepExpanded,
    StepFailed,
    StepLogged,
    StepProgressed,
    StepRetrying,
    StepWaiting,
)
from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.sensitive_values import SensitiveValues
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.json_pointer import join_pointer, split_pointer
from tailrace_shared.workflow.expressions.expression import Expression
from tailrace_shared.workflow.expressions.template import Template
from tailrace_shared.workflow.sensitive_fields import (
    item_sensitive_patterns,
    limit_pointers,
    matching_pointers,
    sensitive_patterns,
)
from tailrace_worker.engine.decide.plan import AWAIT, Plan

_PATH: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class SensitivityMarks:
    """Marks the events of one execution.

    Args:
        state: its state, which is read whenever an event is marked.
    """

    def __init__(self, plan: Plan, state: ExecutionState) -> None:
        self._plan = plan
        self._state = state
        self._values = SensitiveValues.of(state)

    def refresh(self) -> None:
        """Take in outputs that have been fetched since the last event."""
        self._values = SensitiveValues.of(self._state)

    @classmethod
    def of(cls, plan: Plan, state: ExecutionState) -> "SensitivityMarks | None":
        """Return the marks of an execution; None if nothing of it is marked."""
        has_sensitive_values = (
            plan.has_sensitive_fields or bool(state.sensitive) or state.has_sensitive_values
        )
        return cls(plan, state) if has_sensitive_values else None

    def redact(self, text: str) -> str:
        """Return a text in which marked values are masked."""
        return self._values.redact(text)

    def mark(self, event: Event, output: Any = msgspec.UNSET) -> None:
        """Mark an event that is about to be recorded, in place.

        Args:
            output: of a step that has completed, if the event refers to it only.
        """
        match event:
            case StepCompleted():
                value = event.data.output if output is msgspec.UNSET else output
                event.data.sensitive = self._of_output(event, value)
                self._values.add(value, event.data.sensitive)
            case StepExpanded():
                event.data.sensitive = self._of_items(event)
            case StepWaiting():
                self._mark_wait(event)
            case StepProgressed() | StepLogged():
                event.data.message = self.redact(event.data.message)
                event.data.sensitive = self._values.find(event.data.fields)
            case StepFailed() | StepRetrying():
                event.data.error = self.redact(event.data.error)
                # It may contain parts of sensitive values, which cannot be recognised.
                event.data.error_detail = ""
            case ExecutionFailed():
                event.data.error_message = self.redact(event.data.error_message)
            case CommandRequested():
                brought = {"data": event.data.data, "event": event.data.event}
                self._values.add(brought, event.data.sensitive)
            case _:
                pass

    def output_pointers(self, output: Any) -> list[str]:
        template = self._plan.output
        if template is not None:
            return limit_pointers([*self._copied(template, (), ""), *self._values.find(output)])
        steps = self._state.steps
        leaves = [steps[leaf] for leaf in self._plan.graph.leaves if leaf in steps]
        return limit_pointers(
            join_pointer("", leaf.node_id) + place for leaf in leaves for place in leaf.sensitive
        )

    def parameter_pointers(self, step_id: str, name: str, value: Any) -> list[str]:
        copied = self._copied(self._plan.step(step_id).parameters, (name,), step_id)
        return limit_pointers([*copied, *self._values.find(value)])

    def wait_entry_pointers(self, context: Any) -> list[str]:
        """Return the sensitive places in a step's entry of the waiting index."""
        found = [f"/input{place}" for place in self._state.sensitive]
        found += [f"/context/input{place}" for place in self._state.sensitive]
        for step in self._state.steps.values():
            within = join_pointer("/context/nodes", step.node_id, "output")
            found += [within + place for place in step.sensitive]
        found += [f"/context{place}" for place in self._values.find(context)]
        # Pointers to missing places are dropped.
        return limit_pointers(
            matching_pointers(found, {"input": self._state.input, "context": context})
        )

    def _of_output(self, event: StepCompleted, output: Any) -> list[str]:
        step_id = event.data.node_id
        found = [*event.data.sensitive, *matching_pointers(self._patterns(step_id), output)]
        if step_id in self._plan.maps:
            return limit_pointers([*found, *self._gathered(self._state.steps[step_id])])
        node = self._plan.step(step_id)
        if node.node.type == AWAIT:
            step = self._state.steps[step_id]
            found += [] if step.resolution is None else step.resolution.sensitive
        elif node.node.type == "transform":
            found += self._copied(node.parameters, ("value",), step_id)
        return limit_pointers([*found, *self._values.find(output)])

    def _patterns(self, step_id: str) -> list[str]:
        node_id, index = split_item_id(step_id)
        node = self._plan.nodes[node_id].node
        if index is None:
            return sensitive_patterns(node)
        work = self._plan.maps[node_id].work.do
        return [*item_sensitive_patterns(node, index), *sensitive_patterns(work)]

    def _gathered(self, step: StepState) -> Iterator[str]:
        for index in range(len(step.items or ())):
            item = self._state.steps.get(item_id(step.node_id, index))
            yield from (f"/{index}{place}" for place in (item.sensitive if item else ()))

    def _of_items(self, event: StepExpanded) -> list[str]:
        source = self._plan.maps[event.data.node_id].for_each
        found = self._of_path(source, "")
        return limit_pointers([*found, *self._values.find(event.data.items)])

    def _mark_wait(self, event: StepWaiting) -> None:
        wait = event.data
        wait.reason = self.redact(wait.reason)
        match wait.wait:
            case "signal":
                # The sender of the signal marks its data by these patterns.
                wait.sensitive = self._patterns(wait.node_id)
            case "child":
                wait.sensitive = self.parameter_pointers(wait.node_id, "input", wait.child_input)
            case _:
                pass

    # Values that are copied as a whole

    def _copied(
        self, template: Template, within: Sequence[str | int], step_id: str
    ) -> Iterator[str]:
        """Yield the places under ``within`` that a template fills with marked values."""
        for path, expression in template.expressions:
            if path[: len(within)] == tuple(within) and _text_at(template.value, path) == (
                f"${{{expression.source}}}"
            ):
                target = join_pointer("", *path[len(within) :])
                yield from (target + place for place in self._of_path(expression, step_id))

    def _of_path(self, expression: Expression, step_id: str) -> list[str]:
        """Return the marked places in the value of an expression that is a plain path."""
        source = expression.source.strip()
        if not _PATH.fullmatch(source):
            return []
        match source.split("."):
            case ["input", *rest]:
                return _below(self._state.sensitive, rest)
            case ["nodes", node, "output", *rest] if node in self._state.steps:
                return _below(self._state.steps[node].sensitive, rest)
            case ["item", *rest]:
                node, index = split_item_id(step_id)
                return _below(self._state.steps[node].items_sensitive, [str(index), *rest])
            case _:
                return []


def _below(pointers: Iterable[str], path: list[str]) -> list[str]:
    """Return the places below a path that pointers into a value mark."""
    found = []
    for pointer in pointers:
        tokens = split_pointer(pointer)
        if path[: len(tokens)] == tokens:
            return [""]
        if tokens[: len(path)] == path:
            found.append(join_pointer("", *tokens[len(path) :]))
    return found


def _text_at(value: Any, path: Sequence[str | int]) -> Any:
    for token in path:
        value = value[token]
    return value
