"""Create the events that request something of an execution.

Each function checks the command against a folded state, and the caller appends the event with the
fence of that state. So a command that was legal when it was checked is legal when it is stored. If
an approval, a timeout and a cancellation race, one wins, and the others are checked again on the
new state. Commands are idempotent: a function returns None if its request was accepted before.
"""

from typing import Any

from tailrace_shared.errors import IllegalCommandError
from tailrace_shared.execution.events import (
    Command,
    CommandRequested,
    ExecutionQueued,
    Origin,
    Queued,
)
from tailrace_shared.execution.sensitive_values import SensitiveValues
from tailrace_shared.execution.state import ExecutionState, StepState, awaits_signal
from tailrace_shared.execution.timestamps import format_timestamp
from tailrace_shared.workflow.definition import Definition
from tailrace_shared.workflow.sensitive_fields import (
    limit_pointers,
    matching_pointers,
    sensitive_pointers,
)


def create(
    execution_id: str,
    definition: Definition,
    version: int,
    run_input: Any,
    now: float,
    origin: Origin = Origin(),  # noqa: B008 - frozen
) -> ExecutionQueued:
    queued = Queued(
        execution_id,
        definition.id,
        definition.title,
        version,
        run_input,
        "queued",
        parent=origin.parent,
        depth=origin.depth,
        rerun_of=origin.rerun_of,
        from_node=origin.from_node,
        failed=origin.failed,
        revised=origin.revised,
        root=origin.root,
        scheduled_at=origin.scheduled_at,
        schedule=origin.schedule,
        overlap=origin.overlap,
        sensitive=limit_pointers(
            [*sensitive_pointers(definition.input, run_input), *origin.sensitive]
        ),
        tags=definition.tags_with(origin.tags),
    )
    return ExecutionQueued(queued, format_timestamp(now))


def request_cancel(
    state: ExecutionState, command_id: str, reason: str, now: float, actor: str = ""
) -> CommandRequested | None:
    """Request the cancellation of an execution.

    Raises:
        IllegalCommandError: it has completed or failed.
    """
    if state.status == "cancelled" or (state.cancel and not state.is_terminal):
        return None
    if state.is_terminal:
        raise IllegalCommandError(
            f"the execution is {state.status}; only a running execution can be cancelled"
        )
    return _requested(
        Command(state.execution_id, "cancel", command_id, reason=reason, actor=actor), now
    )


def request_pause(
    state: ExecutionState, command_id: str, reason: str, now: float, actor: str = ""
) -> CommandRequested | None:
    """Request that no step starts until the execution is resumed.

    Raises:
        IllegalCommandError: it has ended, or is being cancelled.
    """
    _check_can_continue(state, "paused")
    if state.is_held or command_id in state.commands:
        return None
    return _requested(
        Command(state.execution_id, "pause", command_id, reason=reason, actor=actor), now
    )


def request_resume(
    state: ExecutionState, command_id: str, now: float, actor: str = ""
) -> CommandRequested | None:
    """Request that an execution continues which a request has paused.

    Raises:
        IllegalCommandError: it has ended, or was not paused by a request.
    """
    if command_id in state.commands:
        return None
    _check_can_continue(state, "resumed")
    if not state.is_held:
        raise IllegalCommandError(
            f"the execution is {state.status}; it was not paused by a request"
        )
    return _requested(Command(state.execution_id, "resume", command_id, actor=actor), now)


def request_resolve(state: ExecutionState, signal: Command, now: float) -> CommandRequested | None:
    """Deliver the signal of a waiting step.

    Args:
        signal: a ``resolve``; without a ``node_id`` it is for the only waiting step.
        now: seconds since the epoch.

    Raises:
        IllegalCommandError: the execution has ended, or the step does not wait for a signal.
    """
    if signal.command_id in state.commands:
        return None
    _check_can_continue(state, "resumed")
    step = signalled_step(state, signal.node_id)
    signal.node_id = step.node_id
    signal.sensitive = limit_pointers([*signal.sensitive, *_signal_pointers(state, step, signal)])
    return _requested(signal, now)


def _signal_pointers(state: ExecutionState, step: StepState, signal: Command) -> list[str]:
    wait = step.waiting
    if wait is None:
        return []
    received = {"data": signal.data, "event": signal.event}
    # The output of the step consists of the data of the signal.
    patterns = ["/data", "/event"] if "" in wait.sensitive else wait.sensitive
    found = matching_pointers(patterns, received)
    found += [f"/data{place}" for place in sensitive_pointers(wait.form, signal.data)]
    values = SensitiveValues.of(state)
    return found + (values.find(received) if values else [])


def signalled_step(state: ExecutionState, node_id: str | None) -> StepState:
    """Return the step that a signal is for; without a ``node_id`` the only waiting one.

    Raises:
        IllegalCommandError: the step does not wait for a signal, or the choice is ambiguous.
    """
    waiting = [step for step in state.steps.values() if awaits_signal(step)]
    if node_id is not None:
        for step in waiting:
            if step.node_id == node_id:
                return step
        known = state.steps.get(node_id)
        status = "pending" if known is None else known.status
        decided = known is not None and known.resolution is not None
        raise IllegalCommandError(
            f"the step {node_id!r} already has its decision"
            if decided
            else f"the step {node_id!r} is {status}; it does not wait for a signal"
        )
    if len(waiting) > 1:
        names = ", ".join(step.node_id for step in waiting)
        raise IllegalCommandError(
            f"several steps wait for a signal; choose one with node_id: {names}"
        )
    if not waiting:
        raise IllegalCommandError(
            f"the execution is {state.status}; none of its steps waits for a signal"
        )
    return waiting[0]


def _check_can_continue(state: ExecutionState, participle: str) -> None:
    if state.is_terminal:
        raise IllegalCommandError(
            f"the execution is {state.status}; only a running execution can be {participle}"
        )
    if state.must_stop:
        raise IllegalCommandError(
            f"the execution is being cancelled; it can no longer be {participle}"
        )


def _requested(command: Command, now: float) -> CommandRequested:
    return CommandRequested(command, format_timestamp(now))
