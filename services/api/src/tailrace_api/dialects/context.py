"""What a dialect knows of an execution beside the event that it shows."""

from typing import Any

import msgspec


class Context(msgspec.Struct, frozen=True):
    """What the first event of an execution says, as far as streams tell it with later ones.

    Attributes:
        execution_id: the execution.
        workflow_id: what it runs; empty where nobody needs to know, or the beginning has expired.
        workflow_name: what people call that; as well.
        input: its input, with what nobody is shown masked; None if it is too large to be repeated.
    """

    execution_id: str
    workflow_id: str = ""
    workflow_name: str = ""
    input: Any = None
