"""The graph of a workflow: who needs whom, in which order, in which layers.

``graphlib`` sorts and finds cycles. What runs next is not asked of it but of the scheduler: a
``TopologicalSorter`` releases a node when all its predecessors are done, which is only one of the
three ways in which needs may join.
"""

import graphlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tailrace_shared.errors import ServiceError
from tailrace_shared.workflow.definition import Definition


class CycleError(ServiceError):
    """The nodes need each other in a circle.

    Attributes:
        nodes: the ids on the circle in the order of execution, the first one again at the end.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        super().__init__(" → ".join(nodes))
        self.nodes = list(nodes)


@dataclass(frozen=True, slots=True)
class Graph:
    """A sorted workflow graph.

    Attributes:
        needs: for each node the nodes that it needs.
        dependents: for each node the nodes that need it.
        order: all nodes, each after what it needs.
        depth: for each node the length of the longest path that leads to it.
    """

    needs: Mapping[str, Sequence[str]]
    dependents: Mapping[str, Sequence[str]]
    order: Sequence[str]
    depth: Mapping[str, int]

    @property
    def leaves(self) -> list[str]:
        """The nodes that nothing needs, in execution order."""
        return [node for node in self.order if not self.dependents[node]]

    def layers(self) -> list[list[str]]:
        """Return the nodes by depth: those of one layer may run beside each other."""
        layers: list[list[str]] = [[] for _ in range(max(self.depth.values(), default=-1) + 1)]
        for node in self.order:
            layers[self.depth[node]].append(node)
        return layers

    def ancestry(self) -> Callable[[str, str], bool]:
        """Return a function that tells whether its first node leads to its second.

        One bit per node makes this linear in practice: ten thousand nodes take some 10 MB for
        as long as the function lives.
        """
        bit = {node: 1 << index for index, node in enumerate(self.order)}
        before: dict[str, int] = {}
        for node in self.order:
            mask = 0
            for need in self.needs[node]:
                mask |= before[need] | bit[need]
            before[node] = mask
        return lambda ancestor, node: bool(before[node] & bit[ancestor])


def sort_graph(needs: Mapping[str, Sequence[str]]) -> Graph:
    """Sort a graph given as node → needed nodes (all of which are keys).

    Raises:
        CycleError: naming the nodes of one cycle.
    """
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        raise CycleError(error.args[1]) from None
    dependents: dict[str, list[str]] = {node: [] for node in needs}
    depth: dict[str, int] = {}
    for node in order:
        depth[node] = 1 + max((depth[need] for need in needs[node]), default=-1)
        for need in needs[node]:
            dependents[need].append(node)
    return Graph(needs, dependents, order, depth)


def graph_of(definition: Definition) -> Graph:
    """Return the graph of a valid definition."""
    return sort_graph({node_id: node.needs for node_id, node in definition.nodes.items()})
