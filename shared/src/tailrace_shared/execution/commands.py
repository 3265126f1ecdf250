"""Commands: what may be asked of an execution, and the first events that record the asking."""

from typing import Any

from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    ExecutionQueued,
    Queued,
    format_timestamp,
)
from tailrace_shared.execution.state import ExecutionState
from tailrace_shared.workflow.definition import Definition


def create(
    execution_id: str, definition: Definition, version: int, run_input: Any, now: float
) -> ExecutionQueued:
    """Return the event that brings an execution into being."""
    return ExecutionQueued(
        Queued(execution_id, definition.id, definition.title, version, run_input),
        format_timestamp(now),
    )


def request_cancel(
    state: ExecutionState, command_id: str, reason: str, now: float
) -> CommandRequested | None:
    """Return the event that asks for the end of an execution; None if that is asked already.

    Raises:
        IllegalCommandError: the execution has ended otherwise.
    """
    if state.status == "cancelled" or (state.cancel and not state.is_terminal):
        return None
    if state.is_terminal:
        raise IllegalCommandError(
            f"the execution is {state.status}; only one that runs can be cancelled"
        )
    return CommandRequested(
        Command(state.execution_id, "cancel", command_id, reason), format_timestamp(now)
    )
