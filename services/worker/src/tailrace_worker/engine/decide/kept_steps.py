"""Decide which completions a rerun keeps. Pure.

A rerun keeps what has succeeded and depends on nothing that runs again. What runs again is the node
that it begins with, or the steps that have not succeeded, and every node that has another meaning
than before: its definition has changed, or it reads a part of the input that has. Retries, time
limits and names do not change the meaning of a completion.

Of a map that runs again only because of its items, the other items are kept.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from tailrace_shared.execution.items import item_id, split_item_id
from tailrace_shared.execution.state import ExecutionState, StepState
from tailrace_shared.workflow.definition import Definition, MapWork, Node
from tailrace_shared.workflow.equality import equality_key
from tailrace_shared.workflow.expressions.expression import Expression, compile_expression
from tailrace_worker.engine.decide.plan import AWAIT, MAP, Plan

# What has been decided on stays as it was. Anything else must run again to have an outcome.
_DECIDED: Final = frozenset({"success", "skipped"})


def steps_to_keep(
    rerun: ExecutionState, plan: Plan, original: ExecutionState, before: Definition | None
) -> list[StepState]:
    """Return the steps of an execution that its rerun keeps, in the order of the graph.

    Args:
        rerun: the rerun by its log.
        plan: what the rerun runs.
        original: the execution that is repeated.
        before: the definition that it ran; None if it is the same as that of the rerun.
    """
    if not rerun.keeps_steps:
        return []
    comparison = _Comparison(rerun, plan, original, before)
    again: set[str] = set()
    kept: list[StepState] = []
    for node in plan.graph.order:
        step = original.steps.get(node)
        if not again.isdisjoint(plan.graph.needs[node]) or comparison.has_changed(node):
            again.add(node)
        elif comparison.is_wanted(node, step):
            again.add(node)
            kept += comparison.kept_items(node, step)
        elif step is not None and step.status == "success":
            kept.append(step)
    return kept


class _Comparison:
    def __init__(
        self,
        rerun: ExecutionState,
        plan: Plan,
        original: ExecutionState,
        before: Definition | None,
    ) -> None:
        self._plan = plan
        self._original = original
        self._before = before
        self._failed = rerun.reruns_failed
        self._from = None if rerun.from_node is None else split_item_id(rerun.from_node)
        self._changed_input = (
            _differences(original.input, rerun.input) if rerun.is_revised else set[str]()
        )

    def has_changed(self, node: str) -> bool:
        """Return whether a node may have another outcome with the new definition and input."""
        if self._before is not None and not self._is_same(node, self._before):
            return True
        return self._changed_input != set() and self._reads_changed_input(node)

    def is_wanted(self, node: str, step: StepState | None) -> bool:
        """Return whether the rerun was asked to run a node, or some of its items, again."""
        if self._from is not None and self._from[0] == node:
            return True
        if not self._failed:
            return False
        # A map that collects the errors of its items has succeeded without them.
        return step is None or step.status not in _DECIDED or self._has_failed_items(step)

    def kept_items(self, node: str, step: StepState | None) -> Iterator[StepState]:
        """Yield the items of a map that are kept although the map runs again."""
        if self._from is not None and self._from == (node, None):
            return
        planned = self._plan.maps.get(node)
        if planned is None or step is None or "execution" in planned.for_each.names:
            return
        for index, item in self._items(step):
            if item.status == "success" and (node, index) != self._from:
                yield item

    def _has_failed_items(self, step: StepState) -> bool:
        return any(item.status == "error" for _index, item in self._items(step))

    def _items(self, step: StepState) -> Iterator[tuple[int, StepState]]:
        for index in range(len(step.items or ())):
            item = self._original.steps.get(item_id(step.node_id, index))
            if item is not None:
                yield index, item

    def _is_same(self, node: str, before: Definition) -> bool:
        old = before.nodes.get(node)
        return old is not None and _meaning(old) == _meaning(self._plan.definition.nodes[node])

    def _reads_changed_input(self, node: str) -> bool:
        changed = self._changed_input
        return any(
            path[0] == "input" and (changed is None or len(path) == 1 or path[1] in changed)
            for expression in self._expressions(node)
            for path in expression.paths
        )

    def _expressions(self, node: str) -> Iterator[Expression]:
        planned = self._plan.nodes[node]
        if planned.when is not None:
            yield planned.when
        if (planned_map := self._plan.maps.get(node)) is not None:
            yield planned_map.for_each
            planned = planned_map.item
        yield from (expression for _path, expression in planned.parameters.expressions)
        if planned.node.type == AWAIT and planned.node.parameters.get("match") is not None:
            yield compile_expression(planned.node.parameters["match"])


def _meaning(node: Node) -> Any:
    """Return what decides the outcome of a node, to be compared."""
    parameters: Any = node.parameters
    if node.type == MAP:
        work = msgspec.convert(node.parameters, MapWork)
        parameters = [work.for_each, work.do.type, work.do.parameters, work.do.sensitive]
    return equality_key(
        [node.type, parameters, sorted(node.needs), node.when, node.join, node.sensitive]
    )


def _differences(before: Any, after: Any) -> set[str] | None:
    """Return the names of the fields that differ between two inputs; None if they are no objects.

    The set is empty if nothing differs.
    """
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return set() if equality_key(before) == equality_key(after) else None
    return {
        name
        for name in before.keys() | after.keys()
        if name not in before
        or name not in after
        or equality_key(before[name]) != equality_key(after[name])
    }
