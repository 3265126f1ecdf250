"""The items of a map: steps of their own, called ``node[index]``.

No node id has brackets, so an item's id can be taken for nothing else.
"""


def item_id(node_id: str, index: int) -> str:
    """Return the id of the step that does a map's work for one item."""
    return f"{node_id}[{index}]"


def split_item_id(step_id: str) -> tuple[str, int | None]:
    """Return the node of a step, and the index of its item if it is one."""
    node_id, bracket, rest = step_id.partition("[")
    return (node_id, int(rest[:-1])) if bracket else (step_id, None)
