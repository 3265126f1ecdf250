"""Convert the documents of visual editors: a list of nodes, and a list of edges.

A node is ``{id, type, data}``. Keys of ``data`` that are fields of a node set these fields
(``label`` is its name); all other keys go into ``with``. Layout attributes are dropped.
"""

from typing import Any, Final, NamedTuple

from tailrace_shared.json_pointer import join_pointer

_NODE_FIELDS: Final = frozenset(
    [
        *("name", "needs", "when", "join", "stage", "retry", "timeout", "on_timeout", "on_crash"),
        *("with", "sensitive"),
    ]
)
# React Flow's layout attributes of nodes.
_LAYOUT_FIELDS: Final = frozenset(
    [
        *("position", "positionAbsolute", "width", "height", "initialWidth", "initialHeight"),
        *("measured", "selected", "dragging", "resizing", "draggable", "selectable"),
        *("connectable", "deletable", "focusable", "hidden", "zIndex", "parentId", "parentNode"),
        *("extent", "expandParent", "style", "className", "sourcePosition", "targetPosition"),
        *("dragHandle", "origin", "handles", "ariaLabel"),
    ]
)

_Problems = list[tuple[str, str]]


class Canonical(NamedTuple):
    """A converted document.

    Attributes:
        problems: problems with their positions in the editor's document.
        places: maps pointers into ``document`` to pointers into the editor's document.
    """

    document: dict[str, Any]
    problems: _Problems
    places: dict[str, str]


def to_canonical(document: dict[str, Any]) -> Canonical:
    problems: _Problems = []
    places: dict[str, str] = {}
    nodes: dict[str, Any] = {}
    for index, node in enumerate(document["nodes"]):
        place = f"/nodes/{index}"
        if not isinstance(node, dict) or not isinstance(node.get("id"), str):
            problems.append(
                (place, "a node in a list must be an object with the fields id and type")
            )
        elif node["id"] in nodes:
            problems.append((f"{place}/id", f"another node already has the id {node['id']!r}"))
        else:
            at = join_pointer("/nodes", node["id"])
            places[at] = place
            nodes[node["id"]] = _canonical_node(at, place, node, problems, places)
    _add_edges(document.get("edges", []), nodes, problems, places)
    kept = {key: value for key, value in document.items() if key not in {"edges", "viewport"}}
    return Canonical({**kept, "nodes": nodes}, problems, places)


def _canonical_node(
    at: str, place: str, node: dict[str, Any], problems: _Problems, places: dict[str, str]
) -> dict[str, Any]:
    data = node.get("data", {})
    if not isinstance(data, dict):
        problems.append((f"{place}/data", "data must be an object"))
        data = {}
    canonical = {
        key: value
        for key, value in node.items()
        if key not in _LAYOUT_FIELDS and key not in {"id", "data"}
    }
    parameters: dict[str, Any] = {}
    for key, value in data.items():
        source = join_pointer(place, "data", key)
        if key in _NODE_FIELDS:
            canonical[key] = value
            places[f"{at}/{key}"] = source
        elif key != "label":
            parameters[key] = value
            places[join_pointer(at, "with", key)] = source
        elif "name" not in canonical:
            canonical["name"] = value
            places[f"{at}/name"] = source
    if parameters and isinstance(canonical.setdefault("with", {}), dict):
        canonical["with"] = {**parameters, **canonical["with"]}
    return canonical


def _add_edges(
    edges: Any, nodes: dict[str, Any], problems: _Problems, places: dict[str, str]
) -> None:
    if not isinstance(edges, list):
        problems.append(
            ("/edges", "edges must be a list of objects with the fields source and target")
        )
        return
    for index, edge in enumerate(edges):
        place = f"/edges/{index}"
        ends = (edge.get("source"), edge.get("target")) if isinstance(edge, dict) else ()
        match ends:
            case (str() as source, str() as target):
                unknown = [
                    (f"{place}/{end}", f"there is no node {value!r}")
                    for end, value in (("source", source), ("target", target))
                    if value not in nodes
                ]
                problems.extend(unknown)
                if not unknown:
                    _add_need(nodes[target], source, join_pointer("/nodes", target), places)
            case _:
                detail = "an edge must be an object with the fields source and target"
                problems.append((place, detail))


def _add_need(node: dict[str, Any], need: str, at: str, places: dict[str, str]) -> None:
    if "needs" not in node:
        places[f"{at}/needs"] = "/edges"
    needs = node.setdefault("needs", [])
    # Two edges between different handles of the same nodes are one need.
    if isinstance(needs, list) and need not in needs:
        node["needs"] = [*needs, need]
