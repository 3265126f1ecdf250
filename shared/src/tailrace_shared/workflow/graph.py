"""Sort the dependency graph of a workflow, and find its layers.

``graphlib`` sorts the nodes and finds cycles. It does not decide which node runs next: a
``TopologicalSorter`` releases a node when all its predecessors are done, which is only one of the
three join modes.
"""

import graphlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tailrace_shared.errors import ServiceError
from tailrace_shared.workflow.definition import Definition, Node


class CycleError(ServiceError):
    """The nodes need each other in a cycle.

    Attributes:
        nodes: the ids on the cycle in execution order; the last one repeats the first.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        super().__init__(" → ".join(nodes))
        self.nodes = list(nodes)


@dataclass(frozen=True, slots=True)
class Graph:
    """A sorted workflow graph.

    Attributes:
        depth: the length of the longest path to each node.
    """

    needs: Mapping[str, Sequence[str]]
    dependents: Mapping[str, Sequence[str]]
    order: Sequence[str]
    depth: Mapping[str, int]

    @property
    def leaves(self) -> list[str]:
        """The nodes without dependents, in execution order."""
        return [node for node in self.order if not self.dependents[node]]

    def layers(self) -> list[list[str]]:
        """Return the nodes by depth; the nodes of one layer can run in parallel."""
        layers: list[list[str]] = [[] for _ in range(max(self.depth.values(), default=-1) + 1)]
        for node in self.order:
            layers[self.depth[node]].append(node)
        return layers

    def ancestry(self) -> Callable[[str, str], bool]:
        """Return a function that tells whether its first node is an ancestor of its second.

        It uses one bit per pair of nodes: about 10 MB for ten thousand nodes while the function
        is alive.
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
    """Sort a graph.

    Args:
        needs: the nodes that each node needs; all of them are keys.

    Raises:
        CycleError: the graph has a cycle.
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
    """Return the graph of the main part, without the groups that follow it."""
    return graph_of_nodes(definition.nodes)


def graph_of_nodes(nodes: Mapping[str, Node]) -> Graph:
    return sort_graph({node_id: node.needs for node_id, node in nodes.items()})
