"""The status of a tenant's live executions at one position of its log."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Self

from tailrace_api.dialects.context import Context


class SnapshotQuery(NamedTuple):
    """The contents of a snapshot.

    Attributes:
        waits: whether to include steps that wait for a signal and the contexts of their
            executions; if so, all executions are included.
        workflows: the workflows whose executions and last results to include; None for the
            executions of all workflows and no results.
    """

    waits: bool = False
    workflows: frozenset[str] | None = None

    @property
    def is_of_all(self) -> bool:
        """Whether the executions of all workflows are included."""
        return self.waits or self.workflows is None

    @classmethod
    def union(cls, queries: Collection[Self]) -> Self:
        """Return a query whose snapshot can be restricted to each of some queries."""
        workflows = [query.workflows for query in queries if query.workflows is not None]
        return cls(
            any(query.waits for query in queries),
            frozenset().union(*workflows) if workflows else None,
        )


class WaitingStep(NamedTuple):
    """A step that waits for a signal, as its `step:waiting` event describes it.

    Attributes:
        since: the time of that event (RFC 3339).
        triggers: the procedures that can send the signal.
        until: when the wait times out (RFC 3339); None for never.
    """

    node_id: str
    since: str
    reason: str
    triggers: Sequence[str]
    until: str | None


class ExecutionStatus(NamedTuple):
    """The status of a live execution.

    Attributes:
        context: the execution; complete if it has waits and the query includes them, else with its
            workflow's id only.
        waits: the steps that wait for a signal, oldest first, if the query includes them.
    """

    context: Context
    status: str
    waits: Sequence[WaitingStep] = ()


class EarlierStatus(NamedTuple):
    """The status of an execution at an earlier position.

    Attributes:
        status: its status; None if it did not exist yet or had ended.
    """

    workflow_id: str
    status: str | None


class Ended(NamedTuple):
    """The run of a workflow that ended last.

    Attributes:
        at: when it ended (RFC 3339).
    """

    execution_id: str
    status: str
    at: str


class Snapshot(NamedTuple):
    """A tenant at one position of its log.

    Attributes:
        sequence: the newest commit of the tenant that is included.
        executions: the live executions at that commit, as far as the query includes them.
        ended: by workflow in the query, the run that ended last.
        workflows: the workflows in the query that exist.
    """

    sequence: int
    executions: Sequence[ExecutionStatus]
    ended: Mapping[str, Ended]
    workflows: frozenset[str]

    def restricted(self, query: SnapshotQuery) -> "Snapshot":
        """Return what a query asks for of a snapshot that contains more."""
        workflows = query.workflows
        if workflows is None:
            return self._replace(ended={}, workflows=frozenset())
        executions = self.executions
        if not query.waits:
            executions = [each for each in executions if each.context.workflow_id in workflows]
        return self._replace(
            executions=executions,
            ended={name: ended for name, ended in self.ended.items() if name in workflows},
            workflows=self.workflows & workflows,
        )
