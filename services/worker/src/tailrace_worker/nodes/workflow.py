"""The node type ``workflow``: run another workflow without occupying a worker meanwhile."""

from typing import Any

from tailrace_shared.errors import InvalidIdError
from tailrace_shared.ids import check_id
from tailrace_worker.nodes.node import NodeFailedError, node
from tailrace_worker.nodes.waits import ForChild


@node("workflow", instant=True)
def workflow(id: str, input: Any = None) -> ForChild:  # noqa: A002 - the keys of `with`
    """Run workflow ``id`` with ``input``; its output becomes this step's output."""
    if not isinstance(id, str):
        raise NodeFailedError("the id of a workflow must be a text", retryable=False)
    try:
        return ForChild(check_id(id, "id"), {} if input is None else input)
    except InvalidIdError as error:
        raise NodeFailedError(str(error), retryable=False) from None
