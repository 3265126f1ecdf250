"""Prepare a definition for execution: sorted, with expressions compiled on first use. Pure."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec

from tailrace_shared.execution.items import split_item_id
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.definition import Definition, Group, MapWork, Node
from tailrace_shared.workflow.expressions.budget import DEFAULT_STEPS, Budget
from tailrace_shared.workflow.expressions.expression import Expression, compile_expression
from tailrace_shared.workflow.expressions.template import Template, compile_template
from tailrace_shared.workflow.graph import Graph, graph_of, graph_of_nodes
from tailrace_shared.workflow.sensitive_fields import has_sensitive_fields

MAP: Final = "map"
AWAIT: Final = "await"
CHILD: Final = "workflow"


class PlannedNode:
    """One node of a plan, or the work of a map on each of its items.

    Args:
        node_id: the id of the node; for the work on an item, the id of the map.
        is_actor: whether actors run its attempts.
        steps: what its expressions may cost, in each of its templates.
    """

    def __init__(
        self, node_id: str, node: Node, *, is_actor: bool, steps: float = DEFAULT_STEPS
    ) -> None:
        self.id = node_id
        self.node = node
        self.is_actor = is_actor
        self._steps = steps

    def budget(self) -> Budget:
        """Return the budget of one rendering of its parameters."""
        return Budget(self._steps)

    @cached_property
    def when(self) -> Expression | None:
        return None if self.node.when is None else compile_expression(self.node.when)

    @cached_property
    def parameters(self) -> Template:
        return compile_template(self.node.parameters)

    @cached_property
    def secrets(self) -> frozenset[str]:
        """Names of the secrets that an attempt needs."""
        named = (expression.secret for _path, expression in self.parameters.expressions)
        return frozenset(name for name in named if name is not None)


class PlannedMap:
    """The work of a map, with the compiled expression of its items.

    Args:
        work: what it does.
        node: what it does for each item.
        is_actor: whether actors run the items.
        steps: what expressions may cost.
    """

    def __init__(
        self, node_id: str, work: MapWork, node: Node, *, is_actor: bool, steps: float
    ) -> None:
        self.work = work
        self.for_each = compile_expression(work.for_each)
        self.item = PlannedNode(node_id, node, is_actor=is_actor, steps=steps)


class Plan:
    """One version of a workflow, shared by all executions of it on this worker.

    Args:
        is_actor: returns whether actors run a node type; None if no worker has published it yet.
        expression_steps: what the expressions of one template may cost.

    Attributes:
        graph: the graph of the main part.
        parts: the graphs of the main part (None) and of the groups that follow it, in order.
        nodes: the nodes of all parts.
        is_provisional: whether it has an unknown node type, which may turn out to be an actor's.
    """

    def __init__(
        self,
        definition: Definition,
        is_actor: Callable[[str], bool | None] = lambda _type: False,
        expression_steps: float = DEFAULT_STEPS,
    ) -> None:
        self.definition = definition
        self.expression_steps = expression_steps
        self.graph: Graph = graph_of(definition)
        self._types = types_of(definition)
        self._actors = {node_type: is_actor(node_type) for node_type in self._types}
        self.is_provisional = None in self._actors.values()
        self.timeout_s = definition.timeout_seconds
        self.nodes: dict[str, PlannedNode] = {}
        self.maps: dict[str, PlannedMap] = {}
        self.parts: dict[Group | None, Graph] = {None: self.graph}
        self._add(definition.nodes, None)
        for group, nodes in definition.groups.items():
            self.parts[group] = graph_of_nodes(nodes)
            self._add(nodes, group)

    def _add(self, nodes: Mapping[str, Node], group: Group | None) -> None:
        steps = self.expression_steps
        for node_id, given in nodes.items():
            node = given if given.type == MAP else self.definition.with_defaults(given, group)
            is_actor = bool(self._actors[node.type])
            self.nodes[node_id] = PlannedNode(node_id, node, is_actor=is_actor, steps=steps)
            if node.type == MAP:
                work = msgspec.convert(node.parameters, MapWork)
                item = self.definition.with_defaults(work.do.node(), group)
                item = msgspec.structs.replace(item, stage=node.stage)
                is_actor = bool(self._actors[item.type])
                self.maps[node_id] = PlannedMap(node_id, work, item, is_actor=is_actor, steps=steps)

    def compile_all(self) -> None:
        """Compile all expressions, which takes seconds for the largest definitions."""
        for _ in self._expressions():
            pass

    def step(self, step_id: str) -> PlannedNode:
        """Return what a step runs: its node, or for an item the work of its map."""
        node_id, index = split_item_id(step_id)
        return self.nodes[node_id] if index is None else self.maps[node_id].item

    def budget(self) -> Budget:
        """Return the budget of one expression or template."""
        return Budget(self.expression_steps)

    @cached_property
    def concurrency_key(self) -> Expression | None:
        """The expression that chooses the group of the concurrency limit."""
        limit = self.definition.concurrency
        return None if limit is None or limit.key is None else compile_expression(limit.key)

    @cached_property
    def starts_runs(self) -> bool:
        """Whether some steps start child runs."""
        return CHILD in self._types

    @cached_property
    def awaits(self) -> bool:
        return any(planned.node.type == AWAIT for planned in self.nodes.values())

    @cached_property
    def has_actors(self) -> bool:
        """Whether actors run some of its steps."""
        return any(node.is_actor for node in self.nodes.values()) or any(
            planned.item.is_actor for planned in self.maps.values()
        )

    @cached_property
    def has_sensitive_fields(self) -> bool:
        return has_sensitive_fields(self.definition)

    @cached_property
    def output(self) -> Template | None:
        """The compiled template of the run's output; None for the default."""
        declared = self.definition.output
        return None if declared is None else compile_template(declared)

    @cached_property
    def referenced(self) -> frozenset[str] | None:
        """Nodes whose outcome is named by an expression; None if it may be any node."""
        named: set[str] = set()
        for expression in self._expressions():
            if expression.nodes is None:
                return None
            named |= expression.nodes
        return frozenset(named)

    def _expressions(self) -> Iterator[Expression]:
        templates = [node.parameters for node in self.nodes.values() if node.id not in self.maps]
        templates += [planned.item.parameters for planned in self.maps.values()]
        if self.output is not None:
            templates.append(self.output)
        for template in templates:
            yield from (expression for _path, expression in template.expressions)
        yield from (node.when for node in self.nodes.values() if node.when is not None)
        yield from (planned.for_each for planned in self.maps.values())
        for node in (planned.node for planned in self.nodes.values()):
            if node.type == AWAIT and node.parameters.get("match") is not None:
                yield compile_expression(node.parameters["match"])


def types_of(definition: Definition) -> frozenset[str]:
    """Return the node types that a workflow uses, also those of the items of its maps."""
    nodes = definition.all_nodes.values()
    maps = [msgspec.convert(node.parameters, MapWork) for node in nodes if node.type == MAP]
    return frozenset({node.type for node in nodes} | {work.do.type for work in maps})


def names_of(step_id: str, state: ExecutionState) -> Mapping[str, Any]:
    """Return the names that the expressions of a step may use beside the common ones."""
    node_id, index = split_item_id(step_id)
    items = state.steps[node_id].items if index is not None else None
    return {} if items is None or index is None else {"item": items[index], "index": index}
