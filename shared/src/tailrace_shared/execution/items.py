"""Ids of the items of a map: ``node[index]``.

Each item is a step. Node ids contain no brackets, so the ids of items are unambiguous.
"""


def item_id(node_id: str, index: int) -> str:
    return f"{node_id}[{index}]"


def split_item_id(step_id: str) -> tuple[str, int | None]:
    """Return the node id of a step, and the index if the step is an item."""
    node_id, bracket, rest = step_id.partition("[")
    return (node_id, int(rest[:-1])) if bracket else (step_id, None)
