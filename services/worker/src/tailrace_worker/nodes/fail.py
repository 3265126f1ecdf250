"""The node type ``fail``: fail with a message."""

from typing import Any, NoReturn

from tailrace_shared.json_encoding import json_text
from tailrace_worker.nodes.node import NodeFailedError, node


@node("fail", instant=True)
def fail(message: Any) -> NoReturn:
    """Fail the attempt with ``message``, as JSON unless it is a text."""
    raise NodeFailedError(json_text(message))
