"""The form in which visual editors keep a graph: a list of nodes, and a list of edges.

A node is ``{id, type, data}``. In ``data`` the names of a node's own fields mean those fields
(``label`` is its name); every other key goes into ``with``. What an editor keeps for drawing is
dropped.
"""

from typing import Any, Final

_NODE_FIELDS: Final = frozenset(
    ("name", "needs", "when", "join", "stage", "retry", "timeout", "with")
)
# React Flow's node attributes: where and how a node is drawn.
_DRAWING: Final = frozenset(
    [
        *("position", "positionAbsolute", "width", "height", "initialWidth", "initialHeight"),
        *("measured", "selected", "dragging", "resizing", "draggable", "selectable"),
        *("connectable", "deletable", "focusable", "hidden", "zIndex", "parentId", "parentNode"),
        *("extent", "expandParent", "style", "className", "sourcePosition", "targetPosition"),
        *("dragHandle", "origin", "handles", "ariaLabel"),
    ]
)

_Problems = list[tuple[str, str]]


def to_canonical(document: dict[str, Any]) -> tuple[dict[str, Any], _Problems]:
    """Return the definition with nodes by id and edges as needs, and what is wrong with it."""
    problems: _Problems = []
    nodes: dict[str, Any] = {}
    for index, node in enumerate(document["nodes"]):
        pointer = f"/nodes/{index}"
        if not isinstance(node, dict) or not isinstance(node.get("id"), str):
            problems.append((pointer, "a node in a list is an object with the fields id and type"))
        elif node["id"] in nodes:
            problems.append((f"{pointer}/id", f"a second node has the id {node['id']!r}"))
        else:
            nodes[node["id"]] = _canonical_node(pointer, node, problems)
    _add_edges(document.get("edges", []), nodes, problems)
    kept = {key: value for key, value in document.items() if key not in {"edges", "viewport"}}
    return {**kept, "nodes": nodes}, problems


def _canonical_node(pointer: str, node: dict[str, Any], problems: _Problems) -> dict[str, Any]:
    data = node.get("data", {})
    if not isinstance(data, dict):
        problems.append((f"{pointer}/data", "data is an object"))
        data = {}
    canonical = {
        key: value
        for key, value in node.items()
        if key not in _DRAWING and key not in {"id", "data"}
    }
    parameters: dict[str, Any] = {}
    for key, value in data.items():
        if key == "label":
            canonical.setdefault("name", value)
        elif key in _NODE_FIELDS:
            canonical[key] = value
        else:
            parameters[key] = value
    if parameters and isinstance(canonical.setdefault("with", {}), dict):
        canonical["with"] = {**parameters, **canonical["with"]}
    return canonical


def _add_edges(edges: Any, nodes: dict[str, Any], problems: _Problems) -> None:
    if not isinstance(edges, list):
        problems.append(("/edges", "edges is a list of objects with the fields source and target"))
        return
    for index, edge in enumerate(edges):
        pointer = f"/edges/{index}"
        if not isinstance(edge, dict):
            problems.append((pointer, "an edge is an object with the fields source and target"))
            continue
        source, target = str(edge.get("source")), str(edge.get("target"))
        unknown = [
            (f"{pointer}/{end}", f"there is no node {value!r}")
            for end, value in (("source", source), ("target", target))
            if value not in nodes
        ]
        problems.extend(unknown)
        if not unknown:
            needs = nodes[target].setdefault("needs", [])
            # Two handles of one node may be joined by two edges; that is still one need.
            if isinstance(needs, list) and source not in needs:
                nodes[target]["needs"] = [*needs, source]
