"""The node type ``fail``: fail with a message."""

from typing import Any, NoReturn

from tailrace_worker.nodes.node import NodeFailedError, node


@node("fail", instant=True)
def fail(message: Any) -> NoReturn:
    """Fail the attempt with ``message``."""
    raise NodeFailedError(str(message))
