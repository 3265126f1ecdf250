"""The context of an execution, shown with its later events."""

from typing import Any

import msgspec


class Context(msgspec.Struct, frozen=True):
    """The parts of an execution's first event that dialects show with later ones.

    Attributes:
        execution_id: the execution.
        workflow_id: its workflow; empty if the dialect does not need it or the event has expired.
        workflow_name: the workflow's display name; empty in the same cases.
        input: its input, with sensitive values masked; None if it is too large to repeat.
        version: the version of its workflow; 0 if unknown, like the next ones if they are empty.
        created_at: when it was created (RFC 3339).
        parent: the execution whose step started it.
        rerun_of: the execution that it repeats.
        tags: its tags.
    """

    execution_id: str
    workflow_id: str = ""
    workflow_name: str = ""
    input: Any = None
    version: int = 0
    created_at: str | None = None
    parent: str | None = None
    rerun_of: str | None = None
    tags: tuple[str, ...] = ()
