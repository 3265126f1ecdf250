"""Snapshots: what a tenant's log says of all that is live, at one place of it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tailrace_api.dialects.context import Context


class SnapshotQuery(NamedTuple):
    """What a snapshot is to hold.

    Attributes:
        waits: whether the steps that wait for a signal, with their executions' contexts; then of
            all executions.
        workflows: of which workflows the executions and the last results; None: of every workflow
            the executions, of none the results.
    """

    waits: bool = False
    workflows: frozenset[str] | None = None


class WaitingStep(NamedTuple):
    """A step that waits for a signal; what `step:waiting` said of it.

    Attributes:
        node_id: the step.
        since: the time of that event.
        reason: why it waits.
        triggers: the procedures that may bring the signal.
        until: until when it waits at the most; None for ever.
    """

    node_id: str
    since: str
    reason: str
    triggers: Sequence[str]
    until: str | None


class ExecutionStatus(NamedTuple):
    """How an execution stands that has not ended.

    Attributes:
        context: the execution; with all that its first event says if waits are wanted and it has
            some, else with its workflow's id only.
        status: its status.
        waits: the steps that wait for a signal, those first that began first; if they are wanted.
    """

    context: Context
    status: str
    waits: Sequence[WaitingStep] = ()


class EarlierStatus(NamedTuple):
    """How an execution stood at an earlier place.

    Attributes:
        workflow_id: its workflow.
        status: its status; None: it was not there yet, or had ended.
    """

    workflow_id: str
    status: str | None


class Ended(NamedTuple):
    """The run of a workflow that ended last.

    Attributes:
        execution_id: which run.
        status: how it ended.
        at: when (RFC 3339).
    """

    execution_id: str
    status: str
    at: str


class Snapshot(NamedTuple):
    """All of it.

    Attributes:
        sequence: the newest commit of the tenant that it knows of.
        standings: all executions that are wanted and had not ended with that commit.
        ended: by workflow, the run that ended last; of the workflows that are wanted.
        workflows: the workflows that are wanted and exist.
    """

    sequence: int
    standings: Sequence[ExecutionStatus]
    ended: Mapping[str, Ended]
    workflows: frozenset[str]
